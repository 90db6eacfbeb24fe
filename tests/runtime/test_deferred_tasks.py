"""`task.delay()`: what is deferred runs once, whatever happens to the server before a task worker takes it."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import Platform, runtime_python, wait_for

pytestmark = pytest.mark.timeout(300)
TASKS = """
import pathlib, sys
from prefect import task
from prefect.task_worker import serve

@task
def note(word):
    with pathlib.Path(__file__).with_name("done.txt").open("a") as done:
        done.write(word + "\\n")

if __name__ == "__main__":
    words = sys.argv[1:]
    for word in words:
        note.delay(word)
    if not words:
        serve(note)
"""


def _start(platform: Platform, *words: str) -> Any:
    script = platform.folder / "tasks.py"
    script.write_text(TASKS)
    return platform.run("tasks", [runtime_python(), str(script), *words], PREFECT_API_URL=platform.url)


def _states(platform: Platform) -> Counter[str]:
    found = httpx.post(f"{platform.url}/task_runs/filter", json={}, timeout=60).raise_for_status().json()
    return Counter(each["state_type"] for each in found)


def _done(platform: Platform) -> Counter[str]:
    file = platform.folder / "done.txt"
    return Counter(file.read_text().split()) if file.exists() else Counter()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stop", "kill"])
def test_task_runs_deferred_before_a_restart_run_once_after_it(
    platform: Platform, template: Path, number: signal.Signals
) -> None:
    server = platform.server("--template", str(template))
    worker = _start(platform)
    assert _start(platform, "before").popen.wait(120) == 0
    wait_for(lambda: _states(platform) == {"COMPLETED": 1}, "the first runs while its worker is there")
    worker.end()
    assert _start(platform, "a", "b", "c").popen.wait(120) == 0
    assert _states(platform) == {"COMPLETED": 1, "SCHEDULED": 3}
    server.signal(number)
    server.popen.wait(60)
    platform.server("--deferred-after", "0")
    _start(platform)
    wait_for(lambda: _states(platform) == {"COMPLETED": 4}, "all that was deferred has run")
    assert _done(platform) == {"before": 1, "a": 1, "b": 1, "c": 1}
