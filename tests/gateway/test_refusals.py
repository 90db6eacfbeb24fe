"""Refused requests are counted in the verifier's log, at a bounded length, whatever the callers send."""

from __future__ import annotations

import asyncio
import logging

import pytest
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from prefect_platform.gateway.refusals import MAX_CLIENTS, Refusals, client
from tests.gateway.process import Gateway


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 401, "headers": []})


async def _receive() -> Message:
    return {}


async def _send(message: Message) -> None:
    assert message


def _scope(address: str) -> Scope:
    return {"type": "http", "headers": [(b"x-forwarded-for", address.encode())]}


def test_many_refusals_are_one_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    app = Refusals(_refuse, lambda: now)
    with caplog.at_level(logging.WARNING, "gateway"):
        asyncio.run(app(_scope("8.8.8.8"), _receive, _send))
        for number in range(2 * MAX_CLIENTS):
            asyncio.run(app(_scope(f"9.9.{number // 250}.{number % 250}"), _receive, _send))
        now = 61.0
        asyncio.run(app(_scope("9.9.1.1"), _receive, _send))
    first, second = caplog.messages
    assert first.endswith(": 1, most from 8.8.8.8 (1)")
    assert f": {2 * MAX_CLIENTS + 1}, most from others ({MAX_CLIENTS})" in second
    assert len(second) < 200


@pytest.mark.parametrize(
    ("forwarded", "said"),
    [
        ("203.0.114.7, 127.0.0.1", "203.0.114.7"),
        ("192.168.1.5", "192.168.1.5"),
        ("6.6.6.6, 203.0.114.7, 172.16.1.1, 127.0.0.1", "203.0.114.7"),
        ("root, 203.0.114.7", "203.0.114.7"),
        ("x" * 10_000, "this machine"),
        ("", "this machine"),
    ],
)
def test_the_address_is_the_one_that_the_nearest_proxy_saw(forwarded: str, said: str) -> None:
    assert client(Headers({"x-forwarded-for": forwarded})) == said


def test_the_verifier_logs_who_is_refused_and_who_logs_in(shared: Gateway) -> None:
    shared.get("/verify/prefect", [("X-Forwarded-For", "203.0.114.7")])
    shared.get(shared.login_path())
    log = shared.log()
    assert "requests refused since the last such line: " in log
    assert "login: session " in log
    assert "code=" not in log
