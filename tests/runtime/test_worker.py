"""The worker's stop: runs finish, are handed back, or end in a true state; a missing API never ends it."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import STACK, Platform, Process, runtime_python, wait_for
from .runs import FINAL, Runs


def alive(process: Path) -> bool:
    """Whether the process runs (nobody may reap it in a container: a zombie is dead)."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def runs(shared_platform: Platform) -> Runs:
    return Runs(shared_platform)


def test_a_running_flow_survives_sigterm_of_the_worker(shared_platform: Platform, runs: Runs) -> None:
    worker = shared_platform.worker("patient")
    run = runs.create(seconds=6)
    runs.wait(run, "RUNNING")
    worker.signal(signal.SIGTERM)
    wait_for(lambda: "draining" in worker.output(), "the drain")
    late = runs.create(seconds=0)
    during_drain = runs.state(run)
    assert worker.popen.wait(60) == 0, worker.output()
    assert (during_drain, runs.state(run)) == ("RUNNING", "COMPLETED")
    assert runs.state(late) == "SCHEDULED"
    runs.cancel(late)


def test_after_the_drain_time_a_run_ends_crashed(shared_platform: Platform, runs: Runs) -> None:
    worker = shared_platform.worker("hasty", "--drain-seconds", "1", "--kill-seconds", "3")
    polite, stubborn = runs.create(seconds=300), runs.create(seconds=300, stubborn=True)
    for run in (polite, stubborn):
        runs.wait(run, "RUNNING")
    time.sleep(1)  # the flow function, not only its state, must have begun
    processes = [runs.process(run) for run in (polite, stubborn)]
    assert all(alive(process) for process in processes)
    assert worker.stop() == 0, worker.output()
    assert (runs.state(polite), runs.state(stubborn)) == ("CRASHED", "CRASHED")
    assert not any(alive(process) for process in processes)


def test_a_second_signal_stops_now_and_loses_no_claimed_run(shared_platform: Platform, runs: Runs) -> None:
    worker = shared_platform.worker("interrupted", "--kill-seconds", "3")
    running = runs.create(seconds=300)
    runs.wait(running, "RUNNING")
    claimed = [runs.create(seconds=0) for _ in range(3)]
    runs.wait(claimed[0], "PENDING", "RUNNING", "COMPLETED")
    worker.signal(signal.SIGTERM)
    wait_for(lambda: "draining" in worker.output(), "the drain")
    worker.signal(signal.SIGINT)
    assert worker.popen.wait(60) == 0, worker.output()
    assert runs.state(running) == "CRASHED"
    left = {run: runs.state(run) for run in claimed}
    assert set(left.values()) <= {"SCHEDULED", *FINAL}
    for run in claimed:
        runs.cancel(run)


def test_claimed_runs_are_not_lost_at_sigterm(shared_platform: Platform, runs: Runs) -> None:
    worker = shared_platform.worker("claiming")
    wait_for(lambda: "started" in worker.output(), "the worker")
    pending = [runs.create(seconds=0) for _ in range(4)]
    runs.wait(pending[0], "PENDING", "RUNNING")
    assert worker.stop() == 0, worker.output()
    left = [runs.state(run) for run in pending]
    assert "COMPLETED" in left
    assert set(left) <= {"COMPLETED", "SCHEDULED"}
    successor = shared_platform.worker("successor")
    # The runs may all have completed before: then it would be stopped before it listens.
    wait_for(lambda: "started" in successor.output(), "the successor")
    for run in pending:
        runs.wait(run, "COMPLETED")
    assert successor.stop() == 0


def test_cancelling_a_run_still_works(shared_platform: Platform, runs: Runs) -> None:
    worker = shared_platform.worker("cancelling")
    run = runs.create(seconds=300)
    runs.wait(run, "RUNNING")
    worker.signal(signal.SIGTERM)
    runs.cancel(run)
    assert runs.wait(run, *FINAL) == "CANCELLED"
    assert worker.popen.wait(60) == 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("limit", [("--limit", "5"), ()])
def test_a_run_scheduled_again_while_it_runs_harms_no_other_run(
    shared_platform: Platform, runs: Runs, limit: tuple[str, ...], tmp_path: Path
) -> None:
    worker, end = shared_platform.worker(f"again{len(limit)}", *limit), tmp_path / "end"
    again, bystander = (runs.create(seconds=300, until=str(end)) for _ in range(2))
    for run in (again, bystander):
        runs.wait(run, "RUNNING")
    first = runs.process(again)
    runs.reschedule(again)
    wait_for(lambda: "not started a second time" in worker.output(), "the refusal", 30)
    assert alive(first)
    end.touch()
    assert runs.wait(bystander, *FINAL) == "COMPLETED", worker.output()
    assert runs.wait(again, *FINAL) == "COMPLETED", worker.output()
    assert runs.process(again) == first, "it ran once"
    assert worker.output().count("not started a second time") == 1
    assert worker.stop() == 0, worker.output()


def test_a_worker_that_was_killed_is_known_when_it_is_back(shared_platform: Platform) -> None:
    """The target starts it again at once, and nobody would know."""

    def started(times: int) -> Process:
        worker = shared_platform.worker("killed")
        wait_for(lambda: worker.output().count("started") == times, "the worker")
        return worker

    for times in (1, 2):
        started(times).end()
    worker = started(3)
    of = {"filter": {"event": {"name": ["platform.worker.ended"]}}}

    def told() -> Any:
        return httpx.post(f"{shared_platform.url}/events/filter", json=of).json()["events"]

    wait_for(lambda: len(told()) == 2, "what became of the two before it")
    assert {each["resource"]["prefect.resource.id"] for each in told()} == {"platform.worker.tests.killed"}
    assert {each["payload"]["cause"] for each in told()} == {"killed (out of memory?)"}
    assert worker.stop() == 0, worker.output()
    assert started(4).stop() == 0
    assert len(told()) == 2, "the last one was stopped"


def test_a_drain_ends_when_there_is_no_api_to_tell(platform: Platform, template: Path) -> None:
    """A host that goes down stops the server too: it must not wait for the drain's whole time."""
    server = platform.server("--template", str(template))
    httpx.post(f"{platform.url}/work_pools/", json={"name": "tests", "type": "process"}).raise_for_status()
    runs, worker = Runs(platform), platform.worker("alone", "--drain-seconds", "900", "--kill-seconds", "3")
    run = runs.create(seconds=800)
    runs.wait(run, "RUNNING")
    server.popen.kill()
    worker.stop(90)
    assert "as the API has been away for 20 s" in worker.output()


def test_a_worker_waits_for_an_api_that_is_not_there(platform: Platform, template: Path) -> None:
    worker = platform.worker("early", PREFECT_CLIENT_MAX_RETRIES="1")
    wait_for(lambda: "does not answer" in worker.output(), "the message")
    assert worker.popen.poll() is None
    platform.server("--template", str(template))
    httpx.post(f"{platform.url}/work_pools/", json={"name": "tests", "type": "process"}).raise_for_status()
    wait_for(lambda: _online(platform.url), "the worker's heartbeat")
    assert worker.stop() == 0, worker.output()


def test_a_pool_that_is_made_after_the_worker_s_start_is_served_at_once(
    platform: Platform, template: Path
) -> None:
    """Not with its next heartbeat: a first setup makes the pool when the server answers, and the worker is there by then."""
    platform.server("--template", str(template))
    worker = platform.worker("early", PREFECT_WORKER_HEARTBEAT_SECONDS="600")
    wait_for(lambda: "'early' started!" in worker.output(), "the worker's start")
    httpx.post(f"{platform.url}/work_pools/", json={"name": "tests", "type": "process"}).raise_for_status()
    wait_for(lambda: _online(platform.url), "the worker's heartbeat")
    assert worker.output().count("not found") < 4, "it says so once, not at each look"
    assert worker.stop() == 0, worker.output()


def _online(url: str) -> bool:
    workers = httpx.post(f"{url}/work_pools/tests/workers/filter", json={}).json()
    return [(item["name"], item["status"]) for item in workers] == [("early", "ONLINE")]


def test_the_canary_completes_with_one_task(shared_platform: Platform) -> None:
    url = shared_platform.url
    env = {"PREFECT_API_URL": url}
    canary = shared_platform.run("canary", [runtime_python(), str(STACK / "canary.py")], **env)
    assert canary.popen.wait(60) == 0, canary.output()
    match = {"flows": {"name": {"any_": ["platform-canary"]}}}

    def recorded() -> bool:
        return bool(httpx.post(f"{url}/task_runs/count", json=match).json() == 1)

    wait_for(recorded, "the task run")
    found = httpx.post(f"{url}/flow_runs/filter", json=match).json()
    assert [run["state"]["type"] for run in found] == ["COMPLETED"]
