"""Attacks on the running platform's one public port: what Traefik and the verifier make of them together."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.gateway.forge import Forge

from . import doors
from .conftest import Clone

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def forge(clone: Clone, token: str) -> Forge:
    return doors.forge_of(clone, token)


def test_a_good_token_is_let_in(platform: Clone, forge: Forge) -> None:
    doors.good_token(platform, forge)


@pytest.mark.parametrize("name", doors.FORGERIES)
def test_a_forged_token_gets_what_no_token_gets(platform: Clone, forge: Forge, name: str) -> None:
    doors.forged_token(platform, forge, name)


@pytest.mark.parametrize("claim", doors.CLAIMS)
def test_a_token_without_a_claim_is_refused(platform: Clone, forge: Forge, claim: str) -> None:
    doors.token_without(platform, forge, claim)


def test_a_signed_token_gets_no_more_than_its_record_grants(platform: Clone, forge: Forge) -> None:
    doors.beyond_its_record(platform, forge)


def test_a_token_that_may_read_changes_nothing(platform: Clone) -> None:
    made = ("gateway.create-token", "--project=tests", "--service=reader", "--scope=prefect:read")
    doors.reader(f"{platform.url}/prefect/api", platform.invoke(*made).stdout.strip())


@pytest.mark.parametrize("headers", doors.CREDENTIALS)
def test_a_credential_that_is_not_one_plain_bearer_header_is_refused(
    platform: Clone, forge: Forge, headers: list[tuple[str, str]]
) -> None:
    doors.credential(platform, forge, headers)


@pytest.mark.parametrize("path", doors.CLOSED)
def test_nothing_is_open_without_a_token(platform: Clone, path: str) -> None:
    doors.closed(platform, path)


@pytest.mark.parametrize("path", doors.TRICKS)
def test_path_tricks_do_not_get_past_the_door(platform: Clone, path: bytes) -> None:
    doors.trick(platform, path)


@pytest.mark.parametrize("path", ["events/in", "events/out", "logs/out"])
def test_a_websocket_without_a_token_is_refused_at_the_door(platform: Clone, token: str, path: str) -> None:
    url = f"{platform.url.replace('http', 'ws', 1)}/prefect/api/{path}"
    for sent in (None, "none"):
        with pytest.raises(InvalidStatus) as refused:
            connect(url, additional_headers={"Authorization": f"Bearer {sent}"} if sent else {})
        assert refused.value.response.status_code == 401
    with connect(url, additional_headers={"Authorization": f"Bearer {token}"}):
        pass


FORGED_IDENTITY = {
    "X-Platform-Subject": "root",
    "X_Platform_Subject": "root",
    "X.Platform.Subject": "root",
    "X-Platform-Project": "root",
    "x-platform_service": "root",
    "X-Platform-Token-Id": "root",
}


@pytest.fixture
def mirror(platform: Clone) -> Iterator[socket.socket]:
    """The listening service behind a route of one's own, `/mirror`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        platform.settings["gateway"]["routes"] = [{"name": "mirror", "path": "/mirror", "url": url}]
        platform.write()
        try:
            platform.invoke("prefect.setup")
            yield server
        finally:
            del platform.settings["gateway"]["routes"]
            platform.write()
            platform.invoke("prefect.setup")


def test_identity_headers_of_the_client_do_not_reach_a_route(
    platform: Clone, token: str, mirror: socket.socket
) -> None:
    """A route of one's own sees who called from the verifier's headers alone, and only whom its scope lets in."""
    made = ("gateway.create-token", "--project", "tests", "--service", "mirror", "--scope", "mirror")
    covering = platform.invoke(*made).stdout.strip()
    with httpx.Client(base_url=platform.url, headers=FORGED_IDENTITY, timeout=30) as client:
        assert client.get("/mirror").status_code == 401
        assert client.get("/mirror", headers={"Authorization": f"Bearer {token}"}).status_code == 403
        with ThreadPoolExecutor(1) as pool:
            seeing = pool.submit(_answer, mirror)
            cookies = f"platform_session_{platform.ports['port']}=x; theme=dark"
            sent = {"Authorization": f"Bearer {covering}", "Cookie": cookies}
            answer = client.get("/mirror", headers=sent)
            seen = seeing.result()
    assert answer.status_code == 200
    assert b"root" not in seen
    assert b"x-platform-subject: tests/mirror\r\n" in seen.lower()
    assert covering.encode() not in seen
    assert b"\r\ncookie: theme=dark\r\n" in seen.lower()


def _answer(server: socket.socket) -> bytes:
    """Answer one request with 200; its head."""
    caller, _ = server.accept()
    with caller:
        caller.settimeout(30)
        seen = b""
        while b"\r\n\r\n" not in seen:
            seen += caller.recv(65536)
        caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    return seen
