"""Each check seen red and green, against a real server, a real authenticating proxy and a real worker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from prefect_platform.checks import canary, probes, schedules
from prefect_platform.checks.check import Check
from prefect_platform.checks.run import CheckSpec, canary_check, outcome, wait_for_checks
from prefect_platform.errors import CheckFailed
from prefect_platform.provisioning.prefect.api import PrefectApi

from .conftest import WORKED, free_port
from .door import Door
from .looks import by_name, deploy

CANARY = ("platform-canary", "canary")
QUICK = {
    *("ping", "refuses", "ready", "version", "ui"),
    *("events", "events refuses", "services", "schedules", "tokens", "deferred", "runs"),
}


@pytest.fixture
def spec(door: Door) -> Iterator[CheckSpec]:
    yield CheckSpec(door.url, door.token, "3.8.8")
    door.broken.clear()


@pytest.fixture
def full(spec: CheckSpec, worker: str) -> CheckSpec:
    return replace(spec, workers=((WORKED, worker),), canary=CANARY)


def red(checks: list[Check]) -> set[str]:
    return {check.name for check in checks if not check.ok}


def test_all_green_with_a_worker(full: CheckSpec) -> None:
    heard: list[str] = []
    checks = wait_for_checks(full, 60, canary_seconds=100, progress=heard.append)
    assert red(checks) == set(), checks
    assert set(by_name(checks)) == QUICK | {"workers", "canary"}
    assert "task run is recorded" in by_name(checks)["canary"].detail
    assert heard[0].endswith("Scheduled")
    assert heard[-1].endswith("Completed")
    again = by_name(wait_for_checks(full, 0))
    assert again["canary (last)"].ok
    assert "Completed" in again["canary (last)"].detail


def test_nobody_there(spec: CheckSpec) -> None:
    down = replace(
        spec, public_url=f"http://127.0.0.1:{free_port()}", workers=((WORKED, "w1"),), canary=CANARY
    )
    checks = wait_for_checks(down, 0, canary_seconds=5)
    assert red(checks) == QUICK | {"workers", "canary"}
    assert all(check.hint for check in checks)
    assert by_name(checks)["canary"].detail == "skipped: earlier checks failed"
    assert spec.token not in f"{checks}{spec}"
    assert not canary_check(down, 0.5).ok


def test_tokens_that_end_are_asked_of_the_gateway(spec: CheckSpec, door: Door) -> None:
    """One of an earlier release passes the question on to Prefect; one that cannot answer is red."""
    (found,) = wait_for_checks(spec, 0, only=["tokens"])
    assert (found.ok, found.warn) == (True, False)
    assert "earlier release" in found.detail
    door.broken["/auth/tokens"] = 503
    (found,) = wait_for_checks(spec, 0, only=["tokens"])
    assert not found.ok
    assert "503" in found.detail


def test_wrong_token(spec: CheckSpec) -> None:
    checks = wait_for_checks(replace(spec, token="wrong-token"), 0)
    assert red(checks) == QUICK - {"ping", "refuses", "events refuses"}
    assert "401" in by_name(checks)["events"].detail
    assert "something else answers at platform.gateway.public_url" in by_name(checks)["ready"].hint
    assert "wrong-token" not in str(checks)


def test_an_open_gateway_is_red(spec: CheckSpec, server: str) -> None:
    checks = wait_for_checks(replace(spec, public_url=server), 0)
    assert red(checks) == {"ping", "refuses", "events refuses"}
    assert "without a token: 200" in by_name(checks)["refuses"].detail


@pytest.mark.parametrize(
    ("ending", "status", "expected"),
    [
        ("/ping", 404, {"ping"}),
        ("/api/admin/version", 403, {"refuses", "version"}),
        ("/ready", 503, {"ready"}),
        ("/ui-settings", 200, {"ui"}),
        (".js", 404, {"ui"}),
        ("/prefect/v2/", 500, {"ui"}),
        ("/events/out", 403, {"events"}),
        ("/events/in", 403, {"events refuses"}),
        ("/flow_runs/filter", 500, {"services", "runs"}),
    ],
)
def test_one_thing_broken(spec: CheckSpec, door: Door, ending: str, status: int, expected: set[str]) -> None:
    door.broken[ending] = status
    checks = wait_for_checks(spec, 0)
    assert red(checks) == expected
    if status != 200:
        assert all(str(status) in check.detail for check in checks if not check.ok)


def test_other_version(spec: CheckSpec) -> None:
    (check,) = wait_for_checks(replace(spec, version="3.8.9"), 0, only=["version"])
    assert (check.ok, check.detail) == (False, "Prefect 3.8.8 is running, expected 3.8.9")


def test_the_ui_calls_another_address(spec: CheckSpec) -> None:
    (check,) = wait_for_checks(replace(spec, api_path="/api"), 0, only=["ui"])
    assert not check.ok
    assert (
        check.detail
        == f"the UI calls /prefect/api, which from {spec.public_url} is not {spec.public_url}/api"
    )


def test_waiting_ends_when_all_is_well_and_when_time_is_over(spec: CheckSpec, door: Door) -> None:
    door.broken["/ready"] = 503
    start = time.monotonic()
    assert red(wait_for_checks(spec, 0.5, only=["ready", "ping"])) == {"ready"}
    took = time.monotonic() - start
    door.broken.clear()
    start = time.monotonic()
    assert red(wait_for_checks(spec, 60 * took, only=["ready", "ping"])) == set()
    assert time.monotonic() - start < 30 * took


def test_workers(spec: CheckSpec, api: PrefectApi, server: str) -> None:
    def seen(pool: str) -> str:
        (check,) = wait_for_checks(replace(spec, workers=((pool, "w9"),)), 0, only=["workers"])
        return "" if check.ok else check.detail

    assert seen("no-such-pool") == "work pool no-such-pool does not exist"
    api.create_work_pool({"name": "beats", "type": "process"})
    assert seen("beats") == "worker w9 has never reported to pool beats"
    url = f"{server}/prefect/api/work_pools/beats"
    httpx.post(f"{url}/workers/heartbeat", json={"name": "w9", "heartbeat_interval_seconds": 1})
    assert seen("beats") == ""
    deadline = time.monotonic() + 20
    while not seen("beats"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert "worker w9 of pool beats: last heartbeat" in seen("beats")
    # The service that would mark the pool NOT_READY runs once an hour here, as if it hung.
    check = outcome("services", lambda: probes.services(api, 0))
    httpx.delete(url)
    assert "pool beats is READY without a live worker" in check.detail


def test_overdue_runs(spec: CheckSpec, api: PrefectApi, server: str) -> None:
    assert outcome("services", lambda: probes.services(api)).ok
    base = f"{server}/prefect/api"
    flow = httpx.post(f"{base}/flows/", json={"name": "overdue"}).json()["id"]
    due = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    state = {"type": "SCHEDULED", "name": "Scheduled", "state_details": {"scheduled_time": due}}
    found = []
    # The service looks every four seconds: it cannot come between every time.
    for _ in range(3):
        httpx.post(f"{base}/flow_runs/", json={"flow_id": flow, "state": state}).raise_for_status()
        found.append(outcome("services", lambda: probes.services(api)))
    assert not all(check.ok for check in found)
    assert any("not marked Late: the background services are not running" in check.detail for check in found)
    assert red(wait_for_checks(spec, 30, only=["services"])) == set()


def test_one_run_that_the_services_left_behind(api: PrefectApi, server: str) -> None:
    """pydocket gives what a worker had in hand at its end to another after five minutes: that is no dead scheduler."""
    base = f"{server}/prefect/api"
    flow = httpx.post(f"{base}/flows/", json={"name": "left behind"}).json()["id"]

    def make(name: str, minutes: float) -> None:
        due = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()
        state = {"type": "SCHEDULED", "name": name, "state_details": {"scheduled_time": due}}
        made = httpx.post(f"{base}/flow_runs/", json={"flow_id": flow, "state": state}).raise_for_status()
        found.append(made.json()["id"])

    def seen(left_behind: float) -> bool:
        """False if it was red at least once: the service of this server may mark the run before it is looked at."""
        checks = []
        for _ in range(3):
            make("Scheduled", left_behind)
            checks.append(outcome("services", lambda: probes.services(api)).ok)
        return all(checks)

    found: list[str] = []
    assert not seen(3)
    make("Late", 2)
    assert seen(3)
    assert not seen(30)
    for run in found:
        httpx.delete(f"{base}/flow_runs/{run}")


def test_schedules_without_runs(api: PrefectApi, server: str) -> None:
    base = f"{server}/prefect/api"
    flow = httpx.post(f"{base}/flows/", json={"name": "scheduled"}).json()["id"]
    found = []
    # The scheduler looks every five seconds: it cannot come between every time.
    for number in range(3):
        schedule = {"active": True, "schedule": {"interval": 3600}}
        body = {"name": f"scheduled-{number}", "flow_id": flow, "schedules": [schedule]}
        httpx.post(f"{base}/deployments/", json=body).raise_for_status()
        found.append(outcome("schedules", lambda: schedules.schedules(api, 0)))
    assert not all(check.ok for check in found)
    assert any("has an active schedule but no scheduled run" in check.detail for check in found)
    deadline = time.monotonic() + 60
    while not outcome("schedules", lambda: schedules.schedules(api, 0)).ok:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_canary_without_a_deployment(spec: CheckSpec) -> None:
    check = canary_check(replace(spec, canary=("platform-canary", "none")), 5)
    assert check.detail == "deployment platform-canary/none does not exist"


def test_canary_without_a_worker(spec: CheckSpec, api: PrefectApi, flows: Path) -> None:
    lonely = replace(spec, canary=deploy(api, "lonely", "lonely", flows, "canary.py:platform_canary"))
    (last,) = wait_for_checks(lonely, 0, only=["canary (last)"])
    assert (last.ok, last.detail) == (False, "no canary run has finished yet")
    check = canary_check(lonely, 1)
    assert not check.ok
    assert "no worker picked it up; pool lonely is NOT_READY with 0 workers online" in check.detail
    (run,) = api.flow_runs({"flow_runs": {"name": {"any_": [check.detail.split()[1]]}}})
    assert (run["state"]["type"], run["id"] in check.detail) == ("CANCELLED", True)
    (last,) = wait_for_checks(lonely, 0, only=["canary (last)"])
    assert "canary: no worker picked up this run in time" in last.detail


def test_canary_that_fails(spec: CheckSpec, api: PrefectApi, flows: Path, worker: str) -> None:
    check = canary_check(replace(spec, canary=deploy(api, "broken", WORKED, flows, "flows.py:broken")), 100)
    assert not check.ok
    assert "Failed: Flow run encountered an exception: ValueError: the well is dry" in check.detail
    assert "its last log lines:\n" in check.detail


def test_canary_whose_task_run_is_lost(
    spec: CheckSpec, api: PrefectApi, flows: Path, worker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "RECORDED_WITHIN", 1.0)
    check = canary_check(
        replace(spec, canary=deploy(api, "taskless", WORKED, flows, "flows.py:taskless")), 100
    )
    assert not check.ok
    assert "Completed, but its task run was not recorded within 1 s" in check.detail


def test_only_our_errors_are_outcomes() -> None:
    def slip() -> str:
        raise KeyError("a bug")

    def wrong() -> str:
        raise CheckFailed("it is so", "do this")

    check = outcome("x", wrong)
    assert (check.ok, check.detail, check.hint) == (False, "it is so", "do this")
    with pytest.raises(KeyError):
        outcome("x", slip)
