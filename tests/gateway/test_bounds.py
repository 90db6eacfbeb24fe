"""What one credential may have open, and how its bodies come: another client must not notice."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from .front import Place, until
from .process import Gateway, make_gateway

OPEN, REQUESTS, MEGABYTE, HOLD_SECONDS = 10, 4, 1 << 20, 2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, entry: dict[str, Any]) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("bounds")
    limits = {
        "hold_seconds": HOLD_SECONDS,
        "max_open_per_token": OPEN,
        "max_requests_per_token": REQUESTS,
        "max_body_mb": 1,
    }
    with ExitStack() as opened:
        yield Place(make_gateway(folder, json.dumps([entry])), opened, limits=limits)


@pytest.fixture
def client(place: Place) -> Iterator[httpx.Client]:
    """With a token that nothing else has."""
    headers = {"Authorization": f"Bearer {place.gateway.new_token('--scope', 'prefect own')}"}
    with httpx.Client(base_url=place.front.url, headers=headers, timeout=60) as made:
        yield made


@pytest.mark.parametrize("path", ["/prefect/api", "/own"])
def test_one_token_opens_so_many_sockets_and_others_are_not_in_their_way(
    place: Place, client: httpx.Client, path: str
) -> None:
    mine = {"Authorization": client.headers["Authorization"]}
    held = [place.socket(path, mine) for _ in range(OPEN + 2)]
    assert [each.status for each in held] == ["101"] * OPEN + ["429"] * 2
    other = {"Authorization": f"Bearer {place.gateway.new_token('--scope', 'prefect own')}"}
    assert place.socket(path, other).status == "101"
    for each in held:
        each.close()
    until(lambda: client.get(f"{path}/x").status_code == 200, "room after they were closed")


def test_one_address_opens_so_much_whatever_its_credentials(gateway: Gateway) -> None:
    with ExitStack() as opened:
        place = Place(gateway, opened, limits={"max_open_per_client": OPEN})
        tokens = [place.gateway.new_token("--scope", "prefect own") for _ in range(2)]
        sent = [{"Authorization": f"Bearer {token}"} for token in tokens]
        held = [place.socket("/own", sent[number % 2]) for number in range(OPEN)]
        assert {each.status for each in held} == {"101"}
        assert httpx.get(f"{place.front.url}/own/x").status_code == 429, "before anybody asks who it is"


@contextmanager
def _slow(place: Place, client: httpx.Client, number: int) -> Iterator[None]:
    """So many requests of one token that the service answers only at the end of the block; its share of them has arrived."""
    place.service.slow.clear()
    before = place.service.begun
    with ThreadPoolExecutor(OPEN) as pool:
        answers = [pool.submit(client.get, "/prefect/api/slow") for _ in range(number)]
        try:
            until(lambda: place.service.begun == before + REQUESTS, "its share to arrive")
            yield
        finally:
            place.service.slow.set()
        assert [each.result().status_code for each in answers] == [200] * number


def test_requests_of_one_token_beyond_its_share_wait_for_their_turn(
    place: Place, client: httpx.Client
) -> None:
    with _slow(place, client, REQUESTS + 3):
        begun = place.service.begun
        other = {"Authorization": f"Bearer {place.gateway.new_token()}"}
        assert client.get("/prefect/api/x", headers=other).status_code == 200
        assert place.service.begun == begun + 1, "the others wait at the gateway"


def test_a_request_waits_for_its_turn_longer_than_those_before_it_may_be_held(
    place: Place, client: httpx.Client
) -> None:
    with _slow(place, client, REQUESTS):
        began = time.monotonic()
        assert client.get("/prefect/api/x", timeout=20).status_code == 429
        assert time.monotonic() - began > HOLD_SECONDS


def _chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 1024):
        yield b"x" * 1024


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_the_stated_size_is_refused_before_the_server_sees_it(
    place: Place, client: httpx.Client, chunked: bool
) -> None:
    def body(size: int) -> Any:
        return _chunks(size) if chunked else b"x" * size

    before = place.service.begun
    refused = client.post("/prefect/api/x", content=body(MEGABYTE + 1024))
    assert (refused.status_code, place.service.begun) == (413, before)
    assert client.post("/prefect/api/x", content=body(MEGABYTE)).status_code == 200
    assert place.service.bodies[-1] == MEGABYTE
    assert client.post("/own/x", content=body(2 * MEGABYTE)).status_code == 200, (
        "one's own service decides itself"
    )


def test_slow_bodies_do_not_reach_the_server_before_they_are_whole(
    place: Place, client: httpx.Client
) -> None:
    before = place.service.begun
    head = (
        "POST /prefect/api/x HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n"
        f"Authorization: {client.headers['Authorization']}\r\n\r\nslo"
    )
    with ExitStack() as opened:
        slow = [
            opened.enter_context(socket.create_connection(("127.0.0.1", place.front.port), 30))
            for _ in range(OPEN - 1)
        ]
        for each in slow:
            each.sendall(head.encode())
        assert client.get("/prefect/api/x").status_code == 200, "they have no request's turn either"
        assert place.service.begun == before + 1
        for each in slow:
            each.sendall(b"w b")
        assert {each.recv(4096).split()[1] for each in slow} == {b"200"}
    assert place.service.bodies[-len(slow) :] == [6] * len(slow)


@pytest.mark.parametrize(
    "cut", ["Content-Length: 6\r\n\r\nslo", "Transfer-Encoding: chunked\r\n\r\n6\r\nslo"]
)
def test_a_body_that_was_cut_off_is_not_taken_for_a_whole_one(
    place: Place, client: httpx.Client, cut: str
) -> None:
    before = place.service.begun
    head = f"POST /prefect/api/x HTTP/1.1\r\nHost: x\r\nAuthorization: {client.headers['Authorization']}\r\n"
    with socket.create_connection(("127.0.0.1", place.front.port), 30) as sender:
        sender.sendall(f"{head}{cut}".encode())
        sender.shutdown(socket.SHUT_WR)
        sender.settimeout(10)
        assert b" 200 " not in sender.recv(4096)
    assert client.get("/prefect/api/x").status_code == 200
    assert place.service.begun == before + 1
