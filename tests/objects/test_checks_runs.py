"""What the checks say of runs and of who executes them: busy is not broken, and what nobody executes is not at work."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from prefect_platform.checks import canary, runs
from prefect_platform.checks.check import Check
from prefect_platform.checks.run import CheckSpec, canary_check, wait_for_checks
from prefect_platform.provisioning.prefect.api import PrefectApi

from .door import Door
from .looks import by_name, deploy

sys.path.append(str(Path(__file__).resolve().parents[2] / "stacks" / "prefect"))
from worker_ended import Note


@pytest.fixture
def spec(door: Door) -> Iterator[CheckSpec]:
    yield CheckSpec(door.url, door.token, "3.8.8")
    door.broken.clear()


def test_a_worker_that_ended_by_itself_is_green_and_seen(
    spec: CheckSpec, api: PrefectApi, server: str, tmp_path: Path
) -> None:
    api.create_work_pool({"name": "ended", "type": "process"})
    base = f"{server}/prefect/api"
    body = {"name": "w", "heartbeat_interval_seconds": 60}
    httpx.post(f"{base}/work_pools/ended/workers/heartbeat", json=body).raise_for_status()
    looked = replace(spec, workers=(("ended", "w"),))
    assert by_name(wait_for_checks(looked, 0, only=["workers"]))["workers"].detail == "w in ended"
    for age, why in ((86500, "long ago"), (600, "first"), (60, "RuntimeError('no')")):
        event = told_by_its_successor(tmp_path, why)
        event["occurred"] = (datetime.now(UTC) - timedelta(seconds=age)).isoformat()
        httpx.post(f"{base}/events", json=[event]).raise_for_status()
    deadline = time.monotonic() + 60
    while "2 times" not in (check := by_name(wait_for_checks(looked, 0, only=["workers"]))["workers"]).detail:
        assert time.monotonic() < deadline, check.detail
        time.sleep(0.2)
    assert check.ok
    assert check.detail == "w in ended (ended by itself 2 times in a day, last 1 min ago: RuntimeError('no'))"


def test_canary_in_a_pool_whose_slots_are_all_taken_says_who_has_them(
    spec: CheckSpec, api: PrefectApi, flows: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of the user that take long say nothing against a worker; neither does the canary that found no slot."""
    monkeypatch.setattr(canary, "BUSY_AFTER", 1.0)
    base = f"{server}/prefect/api"
    full = replace(spec, canary=deploy(api, "full", "full", flows, "canary.py:platform_canary"), slots=1)
    httpx.post(
        f"{base}/work_pools/full/workers/heartbeat", json={"name": "w", "heartbeat_interval_seconds": 60}
    )
    deployment = api.deployment("full", "full")
    assert deployment is not None
    made = [api.create_flow_run(deployment["id"], f"full-{number}") for number in range(3)]
    for run, state in zip(made, ("RUNNING", "SCHEDULED", "SCHEDULED"), strict=True):
        body = {"state": {"type": state, "name": "AwaitingConcurrencySlot" if state == "SCHEDULED" else None}}
        httpx.post(f"{base}/flow_runs/{run['id']}/set_state", json=body | {"force": True}).raise_for_status()
    check = canary_check(full, 60)
    assert check.ok, check.detail
    assert f"busy: all 1 slots of pool full are taken ({made[0]['name']}), 2 runs wait (" in check.detail
    assert made[1]["name"] in check.detail
    (last,) = wait_for_checks(full, 0, only=["canary (last)"])
    assert last.ok
    assert "too busy for a canary run" in last.detail
    for run in made:
        api.cancel_flow_run(run["id"], "the test is over")


def test_a_run_that_nobody_executes_is_red_and_one_without_heartbeats_is_not(
    spec: CheckSpec, api: PrefectApi, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = f"{server}/prefect/api"
    monkeypatch.setattr(runs, "SILENT_SECONDS", 3.0)
    monkeypatch.setattr(runs, "OUTAGE_SECONDS", 1.0)
    monkeypatch.setattr(runs, "GRACE_SECONDS", 1.0)
    flow = httpx.post(f"{base}/flows/", json={"name": "nobody"}).json()["id"]
    dead, mute = (
        httpx.post(f"{base}/flow_runs/", json={"flow_id": flow, "state": {"type": "RUNNING"}}).json()
        for _ in range(2)
    )
    for age in (1, 0):
        beat(base, dead["id"], age)

    def seen() -> Check:
        (check,) = wait_for_checks(spec, 0, only=["runs"])
        return check

    assert "send no heartbeats" in seen().detail
    deadline = time.monotonic() + 60
    while (check := seen()).ok:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert f"nobody executes run {dead['name']}: Running, but the last heartbeat was" in check.detail
    assert check.hint.startswith("./invoke prefect.restart --service server")
    for run in (dead, mute):
        api.cancel_flow_run(run["id"], "the test is over")


def told_by_its_successor(folder: Path, why: str) -> dict[str, Any]:
    """What a worker sends of the one before it, as it sends it."""
    ended, successor = Note(folder, "ended", "w"), Note(folder, "ended", "w")
    ended.ended(why)
    successor.begin()
    event = successor.event()
    assert event is not None
    return event


def beat(base: str, run: str, age: float) -> None:
    event = {
        "id": str(uuid.uuid4()),
        "occurred": (datetime.now(UTC) - timedelta(seconds=age)).isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
    }
    httpx.post(f"{base}/events", json=[event]).raise_for_status()
