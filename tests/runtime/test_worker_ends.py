"""A run that reached its end while no server was there to hear it has that end afterwards, whoever was ended meanwhile."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest

from .conftest import Platform, wait_for
from .runs import FINAL, Runs

pytestmark = pytest.mark.timeout(600)


def test_what_ended_while_the_host_went_down_is_no_crash(platform: Platform, template: Path) -> None:
    """`systemctl restart docker` and a reboot stop server and worker together; the server may be gone first."""
    server = platform.server("--template", str(template))
    httpx.post(f"{platform.url}/work_pools/", json={"name": "tests", "type": "process"}).raise_for_status()
    runs, end = Runs(platform), platform.folder / "end"
    worker = platform.worker("ending", "--kill-seconds", "3")
    finished, unfinished = runs.create(seconds=600, until=str(end)), runs.create(seconds=600)
    for run in (finished, unfinished):
        runs.begun(run)
    server.popen.kill()
    server.popen.wait()
    end.touch()
    noted = platform.folder / "home" / "worker-ending" / "ends" / f"{finished}.json"
    wait_for(noted.exists, "the note of the end")
    worker.stop(120)
    assert "as the API has been away for 20 s" in worker.output()
    platform.server()
    assert {runs.state(run) for run in (finished, unfinished)} == {"RUNNING"}
    worker = platform.worker("ending")
    assert runs.wait(finished, *FINAL) == "COMPLETED", worker.output()
    assert runs.wait(unfinished, *FINAL) == "CRASHED", worker.output()
    wait_for(lambda: not list(noted.parent.iterdir()), "the end of the notes")
    assert worker.stop() == 0, worker.output()


def test_a_run_outlasts_the_servers_absence(platform: Platform, template: Path) -> None:
    server = platform.server("--template", str(template))
    httpx.post(f"{platform.url}/work_pools/", json={"name": "tests", "type": "process"}).raise_for_status()
    runs, end = Runs(platform), platform.folder / "end"
    worker = platform.worker("outlasting", PREFECT_CLIENT_MAX_RETRIES="0")
    run = runs.create(seconds=600, until=str(end))
    process = runs.process(run)
    runs.begun(run)
    server.popen.send_signal(signal.SIGKILL)
    server.popen.wait()
    end.touch()
    wait_for(lambda: not process.exists(), "the end of the flow's process")
    platform.server()
    assert runs.wait(run, *FINAL) == "COMPLETED", worker.output()
    assert worker.stop() == 0, worker.output()
