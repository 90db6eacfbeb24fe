"""Updates under load: whoever talks to the platform through Traefik notices nothing of them."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.local import load

from .conftest import Docker
from .vps import Vps, containers

pytestmark = pytest.mark.timeout(600)
RATE = 20
SERVER = "platform-prefect-server-lab"
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
