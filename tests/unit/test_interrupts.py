"""Ctrl-C ends a command wherever it comes, and only once."""

from __future__ import annotations

import subprocess
import sys

BEGIN = """
import os, signal, sys, time
sys.path.insert(0, {src!r})
from prefect_platform.cli import interrupts
interrupts.listen()
"""
LOST = """
class Closed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
closed = Closed()
del closed
time.sleep(60)
"""
CLOSING = """
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
finally:
    try:
        time.sleep(2 * interrupts.AGAIN_SECONDS)
        print("closed", flush=True)
        raise OSError
    except OSError:
        time.sleep(0.01)
"""
CAUGHT = """
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    interrupts.arrived()
time.sleep(2 * interrupts.AGAIN_SECONDS)
print("went on")
"""


def _run(program: str) -> subprocess.CompletedProcess[str]:
    text = BEGIN.format(src=str(next(path for path in sys.path if path.endswith("/src")))) + program
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=50)


def test_one_that_a_finalizer_dropped_comes_again() -> None:
    done = _run(LOST)
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert done.returncode


def test_one_that_is_on_its_way_is_not_interrupted() -> None:
    done = _run(CLOSING)
    assert done.stdout == "closed\n"
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert "During handling" not in done.stderr


def test_who_caught_it_goes_on() -> None:
    done = _run(CAUGHT)
    assert (done.stdout, done.stderr, done.returncode) == ("went on\n", "", 0)
