"""`monitor.create` against a stand-in of Better Stack: one monitor, which can really see whether Prefect is there."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from prefect_platform_lab.standins.betterstack import TOKEN, Standin

from .conftest import Clone

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def betterstack() -> Iterator[tuple[Standin, str]]:
    made = Standin()
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(made.app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield made, f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_one_monitor_that_sees_whether_prefect_is_there(
    platform: Clone, betterstack: tuple[Standin, str]
) -> None:
    standin, api = betterstack
    standin.monitors = {str(number): {"url": f"https://other-{number}.example.com"} for number in range(1, 6)}

    def create(code: int = 0, token: str = TOKEN) -> str:
        words = ("monitor.create", "--env", "local")
        done = platform.invoke(*words, code=code, BETTERSTACK_API_URL=api, BETTERSTACK_API_TOKEN=token)
        return done.stdout + done.stderr

    assert "BETTERSTACK_API_TOKEN=…" in create(3, "")
    assert "rejects the token" in create(3, "wrong")
    assert standin.writes == []
    said = create()
    made = standin.monitors["6"]
    assert made["check_frequency"] == 180
    assert made["url"] == f"{platform.url}/prefect/api/ready"
    headers = {each["name"]: each["value"] for each in made["request_headers"]}
    assert headers["Authorization"].split()[1] not in said
    assert httpx.get(made["url"], headers=headers).status_code == 200
    assert "nothing changed" in create()
    assert [kind for kind, _ in standin.writes] == ["POST"]

    # Changed there, and its token revoked here: put right, with one header.
    made["check_frequency"] = 30
    listed = platform.invoke("gateway.list-tokens", "--json").stdout
    (jti,) = (each["jti"] for each in json.loads(listed) if each["subject"] == "monitor/betterstack")
    platform.invoke("gateway.revoke-token", jti)
    assert "check_frequency, request_headers" in create()
    (header,) = made["request_headers"]
    assert httpx.get(made["url"], headers={header["name"]: header["value"]}).status_code == 200
