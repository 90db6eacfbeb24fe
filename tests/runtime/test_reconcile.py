"""Runs that nobody executes end, with their task runs and their slots; those that somebody executes do not."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import STACK, Platform, runtime_python, wait_for

pytestmark = pytest.mark.timeout(300)
# Real heartbeats come every 30 s at least; these say one a second.
QUICK = {
    "PLATFORM_RECONCILE_SECONDS": "1",
    "PLATFORM_RECONCILE_OUTAGE": "5",
    "PLATFORM_RECONCILE_SETTLED": "1",
}


class Api:
    """Flow runs as a client makes them, over REST."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=60)
        self.flow = self.post("/flows/", {"name": "reconciled"})["id"]

    def post(self, path: str, body: Any) -> Any:
        answer = self.client.post(path, json=body).raise_for_status()
        return answer.json() if answer.content else None

    def run(self, state: str = "RUNNING", **more: Any) -> str:
        """A flow run in this state."""
        made = self.post("/flow_runs/", {"flow_id": self.flow, "state": {"type": "PENDING"}, **more})["id"]
        self.set(made, state)
        return str(made)

    def set(self, run: str, state: str) -> None:
        self.post(f"/flow_runs/{run}/set_state", {"state": {"type": state}})

    def task(self, run: str, **details: Any) -> str:
        """A task run in that flow run, left Running."""
        body = {"flow_run_id": run, "task_key": "t", "dynamic_key": str(uuid.uuid4())}
        begun = {"type": "SCHEDULED", "state_details": details} if details else {"type": "PENDING"}
        made = self.post("/task_runs/", {**body, "state": begun})["id"]
        self.post(f"/task_runs/{made}/set_state", {"state": {"type": "RUNNING"}, "force": True})
        return str(made)

    def state(self, run: str, kind: str = "flow_runs") -> Any:
        return self.client.get(f"/{kind}/{run}").raise_for_status().json()["state"]

    def beat(self, run: str, *ages: float) -> None:
        """Heartbeats of that run, so many seconds old."""
        self.events(*((f"prefect.flow-run.{run}", "prefect.flow-run.heartbeat", age, {}) for age in ages))

    def events(self, *events: tuple[str, str, float, dict[str, Any]]) -> None:
        self.post(
            "/events",
            [
                {
                    "id": str(uuid.uuid4()),
                    "occurred": datetime.fromtimestamp(time.time() - age, UTC).isoformat(),
                    "event": name,
                    "resource": {"prefect.resource.id": resource},
                    "payload": payload,
                }
                for resource, name, age, payload in events
            ],
        )

    def ends(self, run: str, kind: str = "flow_runs") -> Any:
        return wait_for(
            lambda: (state := self.state(run, kind))["type"] != "RUNNING" and state, f"the end of {run}"
        )


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, shared: Path, template: Path) -> Iterator[Api]:
    place = Platform(tmp_path_factory.mktemp("platform"), shared)
    command = [
        runtime_python(),
        str(STACK / "server.py"),
        "--port",
        str(place.port),
        "--template",
        str(template),
    ]
    process = place.run("server", command, **QUICK)
    wait_for(lambda: place.healthy(process), "the server's health")
    made = Api(place.url)
    yield made
    made.client.close()
    place.end()


def test_a_run_that_stopped_its_heartbeats_ends_and_no_other(api: Api) -> None:
    deployment = api.post(
        "/deployments/",
        {"name": "one", "flow_id": api.flow, "concurrency_limit": 1, "enforce_parameter_schema": False},
    )["id"]
    dead, silent, healthy = api.run(deployment_id=deployment), api.run(), api.run()
    left = api.task(dead)
    api.beat(dead, 0, -1, -2)  # those of an earlier attempt would not count
    limit = f"/v2/concurrency_limits/deployment:{deployment}"

    def over() -> Any:
        api.beat(healthy, 0)
        return (state := api.state(dead))["type"] != "RUNNING" and state

    end = wait_for(over, "the end of the dead run")
    assert end["type"] == "CRASHED"
    assert "no heartbeat of its process for" in end["message"]
    assert api.state(silent)["type"] == "RUNNING", "it sends none by its settings"
    assert api.state(healthy)["type"] == "RUNNING"
    assert api.ends(left, "task_runs")["type"] == "CRASHED"
    assert api.client.get(limit).json()["active_slots"] == 0
    api.beat(dead, 0)
    back = wait_for(lambda: (state := api.state(dead))["type"] == "RUNNING" and state, "its return")
    assert back["message"] == "Its heartbeats came back: it had not ended."


def test_a_task_run_left_unfinished_gets_the_end_it_had(api: Api) -> None:
    run = api.run()
    lost, failed, deferred = api.task(run), api.task(run), api.task(run, deferred=True)
    # It stands in the events, and what makes states of them did not see it: a server that was killed in between.
    payload = {
        "validated_state": {
            "type": "FAILED",
            "name": "Failed",
            "message": "dry",
            "state_details": {},
            "data": None,
        },
        "task_run": {
            "task_key": "t",
            "dynamic_key": api.client.get(f"/task_runs/{failed}").json()["dynamic_key"],
        },
    }
    resource = f"prefect.task-run.{failed}"
    api.events((resource, "prefect.task-run.Failed", 0, payload))
    of = {"filter": {"resource": {"id": [resource]}}}
    wait_for(lambda: api.post("/events/filter", of)["events"], "the event")
    api.set(run, "COMPLETED")
    end = api.ends(lost, "task_runs")
    assert (end["type"], end["name"]) == ("COMPLETED", "Completed")
    assert "its flow run Completed" in end["message"]
    end = api.ends(failed, "task_runs")
    assert (end["type"], end["message"]) == ("FAILED", "dry")
    assert api.state(deferred, "task_runs")["type"] == "RUNNING", "a task worker executes it"


def test_slots_without_a_lease_are_free_again_but_not_what_a_client_took(api: Api) -> None:
    def taken(name: str) -> Callable[[], int]:
        api.post("/v2/concurrency_limits/", {"name": name, "limit": 3})
        return lambda: int(api.client.get(f"/v2/concurrency_limits/{name}").json()["active_slots"])

    leaked, kept, by_hand = taken("tag:leaked"), taken("tag:kept"), taken("by-hand")
    for name in ("tag:leaked", "by-hand"):
        body = {"names": [name], "slots": 2, "mode": "concurrency"}
        api.post("/v2/concurrency_limits/increment", body)
    body = {"names": ["tag:kept"], "slots": 1, "mode": "concurrency", "lease_duration": 300}
    api.post("/v2/concurrency_limits/increment-with-lease", body)
    wait_for(lambda: leaked() == 0, "the leaked slots")
    assert (kept(), by_hand()) == (1, 2)


def test_the_services_process_of_the_split_topology_does_it_too(platform: Platform, template: Path) -> None:
    platform.server("--no-services", "--template", str(template))
    alone = Api(platform.url)
    run = alone.run()
    left = alone.task(run)
    alone.set(run, "COMPLETED")
    command = [runtime_python(), str(STACK / "services.py")]
    services = platform.run("services", command, PLATFORM_API_URL=platform.url, **QUICK)
    assert alone.ends(left, "task_runs")["type"] == "COMPLETED", services.output()
    alone.client.close()
    services.signal(signal.SIGINT)
    assert services.popen.wait(60) == 0, services.output()
