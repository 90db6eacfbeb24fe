"""`./invoke test`: groups side by side, what they say, and how they end."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from tasks import _groups
from tasks import dev_tasks as dev

from .conftest import ROOT

NOTE = "import json, os, sys, time\ndef note(**x): open(os.environ['PLATFORM_TEST_NOTES'], 'a').write(json.dumps(x) + chr(10))\n"


def _group(name: str, program: str) -> _groups.Group:
    return _groups.Group(name, [sys.executable, "-c", NOTE + program])


def _done(name: str, seconds: float, outcome: str = "passed") -> str:
    call = json.dumps({"test": name, "when": "call", "seconds": seconds, "outcome": outcome})
    end = json.dumps({"test": name, "when": "teardown", "seconds": 1.0, "outcome": "passed"})
    return f"note(test={name!r}, when='begin'); note(**{call}); note(**{end})\n"


def _run(
    groups: list[_groups.Group], folder: Path, at_once: int = 2, minutes: float = 1
) -> tuple[int, list[str]]:
    said: list[str] = []
    return _groups.run(groups, folder, folder, at_once, minutes, said.append), said


def test_the_worst_code_counts_and_every_group_is_told(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    groups = [
        _group("good", _done("a::quick", 1) + "print('out of good')"),
        _group("bad", _done("b::slow", 30) + _done("b::wrong", 2, "failed") + "sys.exit(3)"),
        _group("last", _done("c::one", 5)),
    ]
    code, said = _run(groups, tmp_path)
    assert code == 3
    assert any(line.startswith("-- bad: FAILED b::wrong") for line in said), "told when it failed"
    assert [line.split(",")[0] for line in said if line.startswith("== bad")] == [
        "== bad: FAILED with exit code 3"
    ]
    table = said[next(number for number, line in enumerate(said) if "slowest of 4 tests" in line) + 1 :]
    assert [line.split()[-1] for line in table[:4]] == ["b::slow", "c::one", "b::wrong", "a::quick"]
    assert table[0].split()[0] == "31.0"
    assert b"out of good" in capfdbinary.readouterr().out


def test_so_many_at_once(tmp_path: Path) -> None:
    program = "open('seen', 'a').write('+'); time.sleep(0.6); open('seen', 'a').write('-')"
    code, _ = _run([_group(name, program) for name in "abc"], tmp_path, at_once=2)
    assert code == 0
    assert (tmp_path / "seen").read_text()[:2] == "++"
    assert "+++" not in (tmp_path / "seen").read_text()


WAITS = """
note(test='d::waits', when='begin')
try: time.sleep(60)
except KeyboardInterrupt: open('taken-down', 'w').close(); sys.exit(2)
"""


def test_over_its_time_it_is_interrupted_with_what_ran(tmp_path: Path) -> None:
    groups = [_group("slow", WAITS), _group("next", "")]
    code, said = _run(groups, tmp_path, at_once=1, minutes=0.05)
    assert code == _groups.CUT_SHORT
    assert "== group slow: not done after 0.05 minutes; it was at d::waits" in said
    assert "== next: NOT RUN" in said
    assert (tmp_path / "taken-down").exists()


def test_one_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_groups, "GRACE", 0.5)
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    began = time.monotonic()
    code, _ = _run([_group("deaf", deaf + "time.sleep(60)")], tmp_path, minutes=0.03)
    assert code == _groups.CUT_SHORT
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_ends_us_ends_the_groups(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM is passed on. Of a Ctrl-C every process of the terminal hears by itself: here the group does not, and is killed in the end."""
    waits = WAITS if number == signal.SIGTERM else WAITS.replace("60", "1.5")
    threading.Timer(1.0, lambda: os.kill(os.getpid(), number)).start()
    code, said = _run([_group("slow", waits), _group("next", "")], tmp_path, at_once=1)
    assert code == _groups.CUT_SHORT
    assert "== next: NOT RUN" in said


def test_every_test_is_in_one_group() -> None:
    files = {str(file.relative_to(ROOT)) for file in (ROOT / "tests").rglob("test_*.py")}
    found = []
    for _, words in dev._group_paths():
        left = {word.removeprefix("--ignore=") for word in words if word.startswith("--ignore=")}
        paths = [word for word in words if not word.startswith("--")]
        found += [
            file
            for file in files - left
            if any(file == path or str(Path(file).parent) == path for path in paths)
        ]
    assert sorted(found) == sorted(files)
