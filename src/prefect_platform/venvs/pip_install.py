"""Runs the steps that create an environment (venv, uv, pip): reports progress, and on failure their last output.

Standard library only, like `venvs`, which uses it before there is any environment.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

Say = Callable[[str], None]

QUIET_SECONDS = 2.0
"""Nobody needs to hear of what takes less."""
EVERY_SECONDS = 10.0

_CAUSES = (
    (
        r"Connection|timed? ?out|Temporary failure|Name or service not known|ProxyError|SSLError"
        r"|error sending request",
        "the package index does not answer: check the network, a proxy (HTTPS_PROXY) or pip's settings (`pip config list`), "
        "then run the same command again",
    ),
    (
        r"DO NOT MATCH THE HASHES|Hash mismatch",
        "a package differs from the lock: the index or a proxy serves different files than the lock records",
    ),
    (r"No space left", "free some disk space, then run the same command again"),
    (r"Permission denied", "check who owns the folder named above"),
    (
        # pip is silent about a dead index when it may not retry: it knows no version, or calls a lock's own lines a conflict.
        r"from versions: none|ResolutionImpossible",
        "the package index does not answer, or has nothing for this system and Python: check the network and `pip config list`, "
        "or try another Python (PREFECT_PLATFORM_PYTHON)",
    ),
    (
        r"No matching distribution",
        "the package index has no wheel for this system and Python: see `pip config list`, or try another Python "
        "(PREFECT_PLATFORM_PYTHON)",
    ),
)
"""What uv and pip say → the next step; the first that matches counts."""
_UV_PHASES = {"Resolved": "downloading", "Prepared": "installing", "Installed": "compiling"}
"""What uv reports as done → what it does next."""
_UNWANTED = (
    *("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"),
    *("PIP_DRY_RUN", "PIP_QUIET", "PIP_REQUIREMENT"),
)
"""Variables that would install elsewhere or something else, or silence the output."""


class StepFailed(Exception):
    """A step of creating an environment failed."""

    def __init__(self, message: str, hint: str) -> None:
        self.message, self.hint = message, hint
        super().__init__(message)


class Progress:
    """Turns the output of uv and pip into a line per phase and every ten seconds, once two have passed."""

    def __init__(self, say: Say, name: str) -> None:
        self._say, self._name = say, name
        self._start = time.monotonic()
        self._next = self._start + QUIET_SECONDS
        self._spoke = False
        self._phase, self._collected, self.total = "", 0, 0

    def phase(self, text: str) -> None:
        self._phase = text
        if self._spoke:
            self._speak()

    def collect(self, total: int) -> None:
        """pip starts: it collects and installs about `total` packages."""
        self.total = total
        self.phase("collecting packages")

    def line(self, text: str) -> None:
        """One line of uv's or pip's output."""
        if done := re.match(r"(Resolved|Prepared|Installed) (\d+) package", text):
            self.phase(f"{_UV_PHASES[done[1]]} {done[2]} packages")
        elif not self.total:
            return
        elif text.startswith(("Collecting ", "Processing /")):
            self._collected += 1
            self._phase = f"collected {self._collected} of {max(self.total, self._collected)} packages"
        elif text.startswith("Installing collected packages"):
            self.phase(f"installing {self._collected} packages")

    def tick(self) -> None:
        if time.monotonic() >= self._next:
            self._speak()

    def done(self) -> None:
        if self._spoke:
            self._say(f"{self._name}: ready after {time.monotonic() - self._start:.0f} s")

    def _speak(self) -> None:
        self._spoke = True
        self._next = time.monotonic() + EVERY_SECONDS
        self._say(f"{self._name}: {self._phase} …")


def clean_environ() -> dict[str, str]:
    """The environment of a builder step: the user's, pip's settings included, without the unwanted.

    Of uv's own variables only the cache's place stays: the rest would change what is installed, and pip's settings say from where.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _UNWANTED and (name == "UV_CACHE_DIR" or not name.startswith("UV_"))
    }
    return kept | {"PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}


def run(argv: Sequence[str], progress: Progress, guard: int, more: Mapping[str, str] | None = None) -> None:
    """Run a builder step with `more` variables. Raises StepFailed.

    It inherits the guard: if we are killed, no other build starts in the folder before the step ends.
    """
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=clean_environ() | dict(more or {}),
        pass_fds=(guard,),
        process_group=0,
        text=True,
        errors="replace",
    )
    try:
        last = _follow(process, progress)
    except BaseException:
        _end(process)
        raise
    if process.wait() != 0:
        raise _failure(argv, process.returncode, last)


def _end(process: subprocess.Popen[str]) -> None:
    """End the step and its children, so that nothing writes to the folder that is removed next."""
    for sign, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
            while time.monotonic() < deadline:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(0.02)
            continue
        break
    process.wait()


def _follow(process: subprocess.Popen[str], progress: Progress) -> deque[str]:
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    assert process.stdout is not None  # we asked for a pipe
    threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
    last: deque[str] = deque(maxlen=200)
    while True:
        try:
            line = lines.get(timeout=0.5)
        except queue.Empty:
            progress.tick()
            continue
        if line is None:
            return last
        last.append(line)
        progress.line(line)
        progress.tick()


def _pump(stream: IO[str], lines: queue.SimpleQueue[str | None]) -> None:
    with stream:
        for line in stream:
            lines.put(line.rstrip())
    lines.put(None)


def _failure(argv: Sequence[str], code: int, last: deque[str]) -> StepFailed:
    step = "uv" if Path(argv[0]).name == "uv" else "pip" if "pip" in argv else "python -m venv"
    tail = "\n".join(f"  | {line}" for line in [line for line in last if line.strip()][-8:])
    return StepFailed(f"{step} failed (exit {code}); last output:\n{tail}", _next_step("\n".join(last)))


def _next_step(output: str) -> str:
    for mark, step in _CAUSES:
        if re.search(mark, output):
            return step
    return "run the same command again; if it fails again, see the lines above"
