"""The request log of a running platform: a stranger can neither push lines out of it nor write one, and no log holds a query."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from .conftest import Clone

pytestmark = pytest.mark.timeout(300)
SECRET = "q0e8r5y"


def _log(platform: Clone) -> Path:
    return platform.state / "logs" / "traefik-gateway.log"


def _requests(platform: Clone, text: str) -> list[dict[str, Any]]:
    """The logged requests that contain the text, rotated files included."""
    found = []
    for file in _log(platform).parent.glob("traefik-gateway.log*"):
        found += [line for line in file.read_text().splitlines() if text in line and '"RequestPath"' in line]
    return [dict(json.loads(line)) for line in found]


def _mark(platform: Clone, token: str, path: str) -> list[dict[str, Any]]:
    """Make a request that is let in, and wait for its line: what came before it is in the log by then."""
    headers = {"Authorization": f"Bearer {token}"}
    httpx.get(f"{platform.url}/prefect/api/health?mark={path}", headers=headers).raise_for_status()
    headers["User-Agent"] = path
    httpx.get(f"{platform.url}/prefect/api/health", headers=headers).raise_for_status()
    end = time.monotonic() + 30
    while not (found := _requests(platform, path)):
        assert time.monotonic() < end, "the request is not in the log"
        time.sleep(0.1)
    return found


def _send(platform: Clone, head: str) -> bytes:
    with socket.create_connection(("127.0.0.1", platform.ports["port"]), timeout=30) as connection:
        try:
            connection.sendall(head.encode())
            return connection.recv(100)
        except ConnectionError:
            return b""  # refused before all was read


def test_a_stranger_cannot_push_requests_out_of_the_log(platform: Clone, token: str) -> None:
    _mark(platform, token, "kept-1")
    before = _log(platform).stat().st_size
    paths = [
        "/prefect/api/health",
        "/nowhere",
        "/",
        "/auth/login?code=x",
        "/auth/logout",
        "/metrics",
        "/prefect/%2f",
    ]
    with httpx.Client(base_url=platform.url, headers={"User-Agent": "stranger"}) as client:
        for _ in range(20):
            for path in paths:
                client.get(path)
    for letter in "abcdefghij" * 6:
        _send(platform, f"GET /prefect/{letter * 990_000} HTTP/1.1\r\nHost: stranger\r\n\r\n")
        _send(platform, f"GET /prefect/{letter * 30_000} HTTP/1.1\r\nHost: stranger\r\n\r\n")
    assert _mark(platform, token, "kept-2")
    assert not _requests(platform, "stranger")
    assert _requests(platform, "kept-1")
    assert _log(platform).stat().st_size - before < 20_000


def test_who_called_is_in_the_log_as_the_verifier_says(platform: Clone, token: str) -> None:
    host = f"127.0.0.1:{platform.ports['port']}"
    for path in ("/prefect/api/health", "/auth/login", "/nowhere"):
        for credential in ("", f"Authorization: Bearer {token}\r\n"):
            head = f"GET http://root%2Fadmin@{host}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
            _send(platform, f"{head}X-Platform-Subject: root/admin\r\nUser-Agent: forger\r\n{credential}\r\n")
    _mark(platform, token, "after-forgery")
    logged = _requests(platform, "forger")
    assert {each["RequestPath"] for each in logged} == {"/prefect/api/health"}
    assert not [each for each in logged if "root" in json.dumps(each)]
    admitted = [each for each in logged if each["DownstreamStatus"] == 200]
    assert {each["request_X-Platform-Subject"] for each in admitted} == {"tests/all"}


def test_no_log_holds_a_query(platform: Clone, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=platform.url, headers=headers) as client:
        client.get(f"/prefect/api/health?a={SECRET}").raise_for_status()
        client.get(f"/auth/login?code={SECRET}")
        client.get(f"/auth/login;code={SECRET}")
    with connect(
        f"{platform.url.replace('http', 'ws', 1)}/prefect/api/events/in?a={SECRET}",
        additional_headers=headers,
    ):
        pass
    _mark(platform, token, "after-queries")
    server = platform.state / "logs" / "prefect-server.log"
    assert "/events/in" in server.read_text(), "WebSockets are logged"
    logs = [*server.parent.glob("*.log*")]
    assert not [file.name for file in logs if SECRET in file.read_text(errors="replace")]
