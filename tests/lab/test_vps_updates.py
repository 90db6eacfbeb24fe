"""Updates under load: whoever talks to the platform through Traefik notices nothing of them."""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.local import load

from .conftest import Docker
from .runs import Flows
from .vps import Vps, containers, wait_for

pytestmark = pytest.mark.timeout(600)
RATE = 10
HOLD_SECONDS = load.PATIENCE - 5
SERVER = "platform-prefect-server-lab"
WORKER, OLD_WORKER = "platform-prefect-worker-lab", "platform-prefect-worker-default-lab"
IMAGE, SECOND = "prefecthq/prefect:3.8.8-python3.12", "prefecthq/prefect:3.8.8-python3.12-second"


class Loaded:
    """The platform with a steady load on it while something is done."""

    def __init__(self, vps: Vps) -> None:
        self.vps = vps
        with vps.client() as client:
            self.authorization = {"Authorization": client.headers["Authorization"]}

    def during(self, action: Callable[[], Any]) -> list[load.Outcome]:
        flow, ended = f"load-{uuid.uuid4().hex}", threading.Event()
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(load.steady_until, self.vps.url, self.authorization, flow, RATE, ended)
            try:
                action()
                time.sleep(5)  # what an update leaves behind shows after it
            finally:
                ended.set()
            outcomes = running.result()
        created = [each for each in outcomes if each.name.endswith("/flow_runs/") and not each.error]
        with self.vps.client() as client:
            answer = client.post("/flow_runs/count", json={"flows": {"name": {"any_": [flow]}}})
        # Neither lost nor, by the gateway's repetition, done twice.
        assert answer.json() == len(created)
        return outcomes


@pytest.fixture
def loaded(standing: Vps) -> Iterator[Loaded]:
    """The gateway holds requests for as long as a server may take to start on a machine that is busy with other tests."""
    if standing.settings["gateway"].get("hold_seconds") != HOLD_SECONDS:
        standing.settings["gateway"]["hold_seconds"] = HOLD_SECONDS
        standing.write()
        standing.invoke("gateway.setup")
    yield Loaded(standing)
    standing.settings["prefect"] = {}
    standing.write()


def _failed(outcomes: list[load.Outcome]) -> list[load.Outcome]:
    assert len(outcomes) > 5 * RATE
    return [each for each in outcomes if each.error]


def test_a_new_server_fails_no_request(loaded: Loaded, docker: Docker) -> None:
    before = containers(docker)[SERVER]["Id"]
    loaded.vps.settings["prefect"] = {"log_level": "WARNING"}
    loaded.vps.write()
    assert _failed(loaded.during(lambda: loaded.vps.invoke("prefect.setup"))) == []
    assert containers(docker)[SERVER]["Id"] != before


def test_another_image_and_the_way_back_fail_no_request(loaded: Loaded, docker: Docker) -> None:
    docker("tag", IMAGE, SECOND)
    loaded.vps.settings["prefect"] = {"image": SECOND}
    loaded.vps.write()
    assert _failed(loaded.during(lambda: loaded.vps.invoke("prefect.setup"))) == []
    assert containers(docker)[SERVER]["Config"]["Image"] == SECOND


def test_a_new_verifier_fails_no_request(loaded: Loaded, docker: Docker) -> None:
    name = "platform-gateway-verifier-lab"
    before = containers(docker)[name]["State"]["StartedAt"]
    assert _failed(loaded.during(lambda: loaded.vps.invoke("gateway.restart", "--service", "verifier"))) == []
    assert containers(docker)[name]["State"]["StartedAt"] != before


@pytest.fixture
def old_name(standing: Vps, docker: Docker) -> Iterator[Callable[[], None]]:
    """The platform as an earlier version set it up, which named every worker's container after its worker; and the way to this version."""
    template = standing.root / "stacks" / "prefect" / "compose.yml.j2"
    now = template.read_text()
    then = now.replace("worker{{ '-' ~ worker.name if not loop.first }}:", "worker-{{ worker.name }}:")
    assert then != now
    template.write_text(then)
    standing.invoke("prefect.setup")
    there = containers(docker)
    assert OLD_WORKER in there
    assert WORKER not in there
    yield lambda: _write(template, now)
    template.write_text(now)
    standing.invoke("prefect.setup")


def _write(file: Path, text: str) -> None:
    file.write_text(text)


def test_the_first_worker_gets_its_plain_name_and_loses_no_run(
    standing: Vps, old_name: Callable[[], None], docker: Docker
) -> None:
    with standing.client() as client:
        flows = Flows(client, docker, OLD_WORKER)
        run = flows.start("slow", seconds=60)
        wait_for(lambda: flows.state(run) == "RUNNING", "the run has begun")
        old_name()
        plan = standing.invoke("prefect.plan").stdout
        assert re.search(r"^stop +prefect-worker-default ", plan, re.MULTILINE)
        assert re.search(r"^start +prefect-worker ", plan, re.MULTILINE)
        assert flows.state(run) == "RUNNING", "it ended before there was anything to lose"
        standing.invoke("prefect.setup")
        there = containers(docker)
        assert WORKER in there
        assert OLD_WORKER not in there
        assert flows.state(run) == "COMPLETED"
        found = client.get(f"/flow_runs/{run}").raise_for_status().json()
        assert found["run_count"] == 1
