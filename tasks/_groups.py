"""Groups of tests side by side: each a process with its output in a file, shown whole when it has ended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

NOTES_VARIABLE = "PLATFORM_TEST_NOTES"
"""As in tests/conftest.py, which writes them."""
SLOWEST = 10
GRACE = 180
"""Seconds that an ended group gets to take down what it started."""
CUT_SHORT = 124
"""Exit code when the time was over, as timeout(1) has it."""


@dataclass(frozen=True)
class Group:
    name: str
    command: Sequence[str]


@dataclass
class Tests:
    """What a group's notes say: seconds by test, the tests that failed, and the one that runs."""

    seconds: dict[str, float] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    running: str = ""

    def take(self, line: str) -> None:
        note = json.loads(line)
        name = note["test"]
        if note["when"] == "begin":
            self.running = name
            return
        self.seconds[name] = self.seconds.get(name, 0.0) + note["seconds"]
        if note["outcome"] == "failed":
            self.failed.add(name)
        if note["when"] == "teardown":
            self.running = ""


class Running:
    """A group that was started."""

    def __init__(self, group: Group, folder: Path, cwd: Path) -> None:
        self.group, self.began, self.tests = group, time.monotonic(), Tests()
        self.output, self._notes = folder / f"{group.name}.txt", folder / f"{group.name}.notes"
        self._notes.touch()
        self._read = 0
        with self.output.open("wb") as into:
            self.process = subprocess.Popen(
                group.command,
                cwd=cwd,
                env={**os.environ, NOTES_VARIABLE: str(self._notes)},
                stdin=subprocess.DEVNULL,
                stdout=into,
                stderr=subprocess.STDOUT,
            )

    def look(self) -> list[str]:
        """Take in new notes; returns the tests that failed since the last look."""
        before = set(self.tests.failed)
        with self._notes.open() as notes:
            notes.seek(self._read)
            whole = notes.read().rpartition("\n")[0]
        self._read += len(whole.encode()) + 1 if whole else 0
        for line in whole.splitlines():
            self.tests.take(line)
        return sorted(self.tests.failed - before)

    @property
    def seconds(self) -> int:
        return round(time.monotonic() - self.began)


def run(
    groups: Sequence[Group], folder: Path, cwd: Path, at_once: int, minutes: float, say: Callable[[str], None]
) -> int:
    """Run the groups in their order, `at_once` of them at a time; returns the worst exit code. A Ctrl-C, which they get too, starts no more of
    them and waits; after `minutes` those that still run are interrupted and the code is 124.
    """
    waiting, running, ended = list(groups), list[Running](), list[Running]()
    until, cut = time.monotonic() + 60 * minutes, ""
    with _termination() as terminated:
        while running or (waiting and not cut):
            try:
                while waiting and not cut and len(running) < at_once:
                    running.append(Running(waiting.pop(0), folder, cwd))
                time.sleep(0.2)
                for each in list(running):
                    _look(each, say)
                    if each.process.poll() is not None:
                        running.remove(each)
                        ended.append(each)
                        _show(each, say)
                if not cut and (terminated or time.monotonic() > until):
                    cut = "terminated" if terminated else f"not done after {minutes:g} minutes"
                    _interrupt(running, cut, say)
                    until = time.monotonic() + GRACE
                elif cut and time.monotonic() > until:
                    _kill(running)
            except KeyboardInterrupt:
                cut, until = cut or "interrupted", time.monotonic() + GRACE
    _summary(ended, [group.name for group in waiting], say)
    worst = max((each.process.returncode for each in ended), key=abs, default=0)
    return CUT_SHORT if cut and (cut != "interrupted" or not worst) else worst


@contextlib.contextmanager
def _termination() -> Iterator[list[int]]:
    """A list that holds SIGTERM once it has come: those who end us mean the groups too."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


def _look(each: Running, say: Callable[[str], None]) -> None:
    for name in each.look():
        say(f"-- {each.group.name}: FAILED {name}, after {each.seconds} s")


def _show(each: Running, say: Callable[[str], None]) -> None:
    """The whole output of a group, and how it ended."""
    _look(each, say)
    say(f"== group {each.group.name}")
    with each.output.open("rb") as output:
        shutil.copyfileobj(output, sys.stdout.buffer)
    sys.stdout.flush()
    code = each.process.returncode
    say(f"== group {each.group.name}: {f'FAILED with exit code {code}' if code else 'ok'}, {each.seconds} s")


def _interrupt(running: Sequence[Running], why: str, say: Callable[[str], None]) -> None:
    for each in running:
        say(f"== group {each.group.name}: {why}; it was at {each.tests.running or 'no test'}")
        each.process.send_signal(signal.SIGINT)


def _kill(running: Sequence[Running]) -> None:
    for each in running:
        each.process.kill()


def _summary(ended: Sequence[Running], never: Sequence[str], say: Callable[[str], None]) -> None:
    seconds = {name: took for each in ended for name, took in each.tests.seconds.items()}
    say(f"== the slowest of {len(seconds)} tests, their fixtures included")
    for name in sorted(seconds, key=lambda each: -seconds[each])[:SLOWEST]:
        say(f"{seconds[name]:7.1f} s  {name}")
    for each in ended:
        code = each.process.returncode
        say(
            f"== {each.group.name}: {f'FAILED with exit code {code}' if code else 'ok'}, {len(each.tests.seconds)} tests"
        )
        for name in sorted(each.tests.failed):
            say(f"   FAILED {name}")
    for group in never:
        say(f"== {group}: NOT RUN")
