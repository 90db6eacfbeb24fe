"""What happens to a VPS at night: the platform comes back by itself, tells the truth meanwhile, and loses nothing it has acknowledged.

Docker never restarts a container after `docker kill`, whatever its restart policy (26.1: it counts as a stop that was asked for). So
what is killed here is the container's first process, as the kernel would.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from prefect_platform.secretstore.store import Secret
from prefect_platform.secretstore.vault.kv import Vault

from .conftest import Docker
from .runs import Flows
from .vps import Vps, all_well, containers, wait_for

pytestmark = pytest.mark.timeout(1200)
Ssh = Callable[..., str]
WORKER = "platform-prefect-worker-lab"
SERVICES = "platform-prefect-services-lab"
SCHEDULER = 400
"""Seconds. After Redis was away pydocket takes up what another process left after 300 s, looking each 75 s: until then no new runs are made,
and those that a new schedule comes with (four) may be over before a slow machine is well again.
"""

WINDOW = 540
"""Seconds without a heartbeat after which a run is marked Crashed, if nothing is set."""


@pytest.fixture
def flows(standing: Vps, docker: Docker) -> Iterator[Flows]:
    with standing.client() as client:
        yield Flows(client, docker, WORKER)


class Acknowledged:
    """Creates flow runs all the while and remembers those that the API said it has."""

    def __init__(self, flows: Flows) -> None:
        self.flows = flows
        self.runs: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        flow = self.flows.post("/flows/", {"name": "acknowledged"})["id"]
        while not self._stop.wait(0.25):
            try:
                answer = self.flows.client.post("/flow_runs/", json={"flow_id": flow})
            except httpx.HTTPError:
                continue
            if answer.status_code == 201:
                self.runs.append(answer.json()["id"])

    def __enter__(self) -> Acknowledged:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def missing(self) -> list[str]:
        found = {
            each["id"]
            for start in range(0, len(self.runs), 200)
            for each in self.flows.post(
                "/flow_runs/filter", {"flow_runs": {"id": {"any_": self.runs[start : start + 200]}}}
            )
        }
        return sorted(set(self.runs) - found)


def _once(container: dict[str, Any]) -> bool:
    return "prefect-platform.once" in container["Config"]["Labels"]


def _schedules_again(flows: Flows, since: float) -> bool:
    """Whether the scheduler has made runs of the scheduled deployment since then."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since))
    body = {
        "deployments": {"id": {"any_": [flows.deployments["quick"]]}},
        "flow_runs": {"start_time": {"after_": moment}, "state": {"type": {"any_": ["COMPLETED"]}}},
    }
    return bool(flows.post("/flow_runs/count", body))


def _schedule_told(flows: Flows, docker: Docker) -> str:
    """Why no scheduled run is done, to be read after the containers are gone."""
    body = {
        "deployments": {"id": {"any_": [flows.deployments["quick"]]}},
        "sort": "START_TIME_DESC",
        "limit": 20,
    }
    runs = [
        f"{each['expected_start_time']} {each['start_time']} {each['state_name']}"
        for each in flows.post("/flow_runs/filter", body)
    ]
    logs = [docker("logs", "--tail", "30", name) for name in (SERVICES, WORKER)]
    return "\n".join(["a scheduled run is done", *runs, *logs])


@pytest.fixture
def scheduled(flows: Flows) -> Iterator[Flows]:
    """`quick` runs every twenty seconds."""
    path = f"/deployments/{flows.deployments['quick']}/schedules"
    made = flows.post(path, [{"active": True, "schedule": {"interval": 20}}])  # type: ignore[arg-type]
    yield flows
    flows.client.delete(f"{path}/{made[0]['id']}")


def test_each_container_comes_back_after_its_death(
    scheduled: Flows, docker: Docker, ssh: Ssh, standing: Vps
) -> None:
    with Acknowledged(scheduled) as acknowledged:
        for name, each in containers(docker).items():
            if _once(each):
                continue
            started = each["State"]["StartedAt"]
            ssh(f"kill -9 {containers(docker)[name]['State']['Pid']}")
            wait_for(partial(_restarted, docker, name, started), f"{name} comes back")
        killed = time.time()
        wait_for(lambda: all_well(docker), "all containers are well")
        wait_for(
            lambda: _schedules_again(scheduled, killed), lambda: _schedule_told(scheduled, docker), SCHEDULER
        )
    assert len(acknowledged.runs) > 20
    assert acknowledged.missing() == []
    standing.invoke("prefect.status")


def _restarted(docker: Docker, name: str, before: str) -> bool:
    state = containers(docker)[name]["State"]
    return (
        state["Running"]
        and state["StartedAt"] != before
        and state.get("Health", {}).get("Status") in (None, "healthy")
    )


@pytest.mark.parametrize("what", ["redis", "postgres", "engine"])
def test_a_restart_underneath_is_survived(
    what: str, scheduled: Flows, docker: Docker, ssh: Ssh, standing: Vps
) -> None:
    with Acknowledged(scheduled) as acknowledged:
        if what == "engine":
            before = ssh("pgrep -x dockerd")
            ssh("pkill -TERM -x dockerd")
            # Until its containers have ended the old engine still answers.
            wait_for(lambda: ssh("pgrep -x dockerd || true") not in ("", before), "another engine runs")
            wait_for(lambda: "Server Version" in docker("info", code=None), "it answers")
        else:
            docker("restart", f"platform-{what}-lab")
        restarted = time.time()
        wait_for(lambda: all_well(docker), "all containers are well")
        wait_for(
            lambda: _schedules_again(scheduled, restarted),
            lambda: _schedule_told(scheduled, docker),
            SCHEDULER,
        )
    assert acknowledged.missing() == []
    standing.invoke("prefect.status")


def test_setup_restarts_what_is_not_well(standing: Vps, docker: Docker, ssh: Ssh) -> None:
    """Compose leaves alone what runs as declared; a person who runs setup does not mean that."""
    name = "platform-gateway-verifier-lab"
    before = containers(docker)[name]
    ssh("pkill -STOP -f '[p]refect_platform.gateway serve'")
    wait_for(lambda: containers(docker)[name]["State"]["Health"]["Status"] == "unhealthy", "it is seen")
    assert "unhealthy" in standing.invoke("gateway.plan").stdout
    standing.invoke("gateway.setup")
    after = containers(docker)[name]
    assert after["Id"] == before["Id"]
    assert after["State"]["Health"]["Status"] == "healthy"


def test_frozen_services_and_a_dead_flow_leave_no_slot_taken(
    flows: Flows, docker: Docker, ssh: Ssh, standing: Vps
) -> None:
    flows.client.post("/v2/concurrency_limits/", json={"name": "chaos", "limit": 1})
    run = flows.start("holding")
    wait_for(lambda: flows.slots("chaos") == 1, "the flow holds its slot")
    # One that has never reported its life cannot be missed: it dies after its first heartbeat has been seen.
    wait_for(lambda: flows.heartbeats(run), "its first heartbeat")
    started = containers(docker)[SERVICES]["State"]["StartedAt"]
    ssh(f"pkill -STOP -f '^python [^ ]*/services.py'; kill -9 {containers(docker)[WORKER]['State']['Pid']}")
    said = wait_for(lambda: _red(standing, "prefect-services"), "status says that the services are not well")
    assert "heartbeat" in said
    # Nobody does anything; meanwhile the lease of the slot runs out, and nobody is there to see it.
    wait_for(
        lambda: containers(docker)[SERVICES]["State"]["StartedAt"] != started, "the services are started anew"
    )
    wait_for(lambda: flows.slots("chaos") == 0, "the slot is free again", SCHEDULER)
    # What the frozen services had in hand, the look for missing heartbeats perhaps, pydocket gives to others only later.
    # The services began its window anew when they started.
    wait_for(lambda: flows.state(run) == "CRASHED", "the run's state is what happened", SCHEDULER + WINDOW)
    flows.client.delete("/v2/concurrency_limits/chaos")


def _red(vps: Vps, name: str) -> str:
    lines = vps.invoke("prefect.status", code=None).stdout.splitlines()
    return next((line for line in lines if line.startswith("FAIL") and f" {name} " in line), "")


def test_a_running_flow_survives_an_update_of_its_worker(flows: Flows, standing: Vps, docker: Docker) -> None:
    run = flows.start("slow")
    wait_for(lambda: flows.state(run) == "RUNNING", "the flow runs")
    before = containers(docker)[WORKER]["Id"]
    standing.settings["prefect"] = {"workers": [{"name": "default", "pool": "default", "poll_seconds": 3}]}
    standing.write()
    standing.invoke("prefect.setup")
    assert containers(docker)[WORKER]["Id"] != before
    assert flows.state(run) == "COMPLETED"
    standing.settings["prefect"] = {}
    standing.write()


def test_vault_away_or_sealed_stops_nothing_that_runs(flows: Flows, standing: Vps, docker: Docker) -> None:
    docker("stop", "platform-vault")
    assert "platform-vault is not running" in _red(standing, "secrets")
    # What needs its secrets anew finds them rendered.
    docker("restart", "platform-prefect-server-lab")
    wait_for(lambda: flows.client.get("/ready").status_code == 200, "the server is back without Vault")
    run = flows.start("quick")
    wait_for(lambda: flows.state(run) == "COMPLETED", "flows run without Vault")
    docker("start", "platform-vault")
    standing.until_well()
    _seal(standing, docker)
    assert "sealed" in _red(standing, "secrets")
    refused = standing.invoke("prefect.setup", code=None)
    assert refused.returncode
    assert "sealed" in refused.stderr
    assert flows.client.get("/ready").status_code == 200
    docker("restart", "platform-vault")  # its seal's key lies on the host: it opens itself
    standing.until_well()


def _seal(vps: Vps, docker: Docker) -> None:
    """As an administrator does, with the recovery keys that the settings of this clone keep."""
    (file,) = (vps.root / ".state" / "hosts").rglob("vault-keys.json")
    keys = json.loads(file.read_text())
    found = json.loads(docker("inspect", "platform-vault"))[0]["NetworkSettings"]["Networks"]
    address = f"http://{found['platform-vault']['IPAddress']}:8200"
    root = Vault(address, None).generate_root(
        [Secret(key) for key in keys["recovery_keys"][: keys["threshold"]]]
    )
    Vault(address, root).client.call(lambda api: api.sys.seal())
