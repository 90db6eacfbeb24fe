"""A stand-in Authentik on a real port, with what a used one has: other people's groups, providers, applications and outposts."""

from __future__ import annotations

import asyncio
import copy
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from prefect_platform.provisioning.authentik.application import Wanted, wanted
from prefect_platform.provisioning.authentik.client import Api
from prefect_platform.secretstore.store import Secret
from prefect_platform_lab.standins.authentik import objects, state
from prefect_platform_lab.standins.authentik.api import Api as StandinApi
from prefect_platform_lab.standins.authentik.main import create_app
from prefect_platform_lab.standins.authentik.store import Memory

TOKEN = "the-administrators-token"
SSO = "https://sso.example.com"
FOREIGN = 25
TABLES = ("users", "groups", "providers", "applications", "bindings", "outposts")


class Authentik:
    """The server, and its state to look at. `url` is where it listens."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.store = Memory()
        self.app = create_app(self.store)
        # Named so that asyncio knows it for TCP and sends without delay.
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.bind((address, 0))
        self.url = f"http://{address}:{listening.getsockname()[1]}"
        config = uvicorn.Config(self.app, log_level="error", lifespan="off", proxy_headers=False)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve([listening])))
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    @property
    def api(self) -> StandinApi:
        found: StandinApi = self.app.state.api
        return found

    @property
    def state(self) -> dict[str, Any]:
        return self.store.state

    def client(self, token: str = TOKEN) -> Api:
        return Api(self.url, Secret(token))

    def reset(self) -> None:
        self.store.state = state.empty()
        state.bootstrap(self.state, TOKEN, "first-password")
        self.api.log.clear()
        self.api.fail = lambda method, path: None

    def foreign(self) -> dict[str, Any]:
        """A copy of everything that is not ours."""
        kept = copy.deepcopy({name: self.state[name] for name in TABLES})
        return {
            name: {key: each for key, each in rows.items() if "foreign" in str(each)}
            for name, rows in kept.items()
        }

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture(scope="session")
def server() -> Iterator[Authentik]:
    made = Authentik()
    yield made
    made.stop()


@pytest.fixture
def authentik(server: Authentik) -> Authentik:
    server.reset()
    seed(server.state)
    return server


def seed(now: dict[str, Any]) -> None:
    """More foreign objects than a page has, the first in every list."""
    flows = [each["pk"] for each in now["flows"].values()]
    for number in range(FOREIGN):
        group = state.add_group(now, f"foreign {number}")
        body = {"name": f"foreign {number}", "authorization_flow": flows[0], "invalidation_flow": flows[1]}
        provider = objects.new_provider(
            now, {**body, "external_host": f"https://foreign-{number}.example.com", "mode": "forward_single"}
        )
        application = objects.new_application(
            now, {"name": f"foreign {number}", "slug": f"foreign-{number}", "provider": provider["pk"]}
        )
        objects.new_binding(now, {"target": application["pk"], "group": group["pk"], "order": 0})
        (outpost,) = (each for each in now["outposts"].values() if each["managed"] == state.EMBEDDED)
        outpost["providers"].append(provider["pk"])
    outpost["config"] |= {"authentik_host": SSO, "log_level": "debug", "kubernetes_namespace": "kept"}
    other = {**outpost, "pk": state.new_uuid(), "name": "foreign outpost", "managed": None, "providers": []}
    now["outposts"] = {other["pk"]: other, **now["outposts"]}
    state.add_group(now, "admins")
    state.add_group(now, "Admins")


@pytest.fixture
def want() -> Wanted:
    return wanted(
        "Prefect",
        "prefect",
        "https://Prefect.example.com/",
        "platform-prefect-server",
        4200,
        ["admins"],
        SSO,
        own=True,
    )


def embedded(now: dict[str, Any]) -> dict[str, Any]:
    (found,) = (each for each in now["outposts"].values() if each["managed"] == state.EMBEDDED)
    return dict(found)
