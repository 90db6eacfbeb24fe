"""What is open ends with the credential that opened it: WebSockets, streams and long polls, whatever ends the credential."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from .forge import decode, key_entry
from .front import KEPT_OPEN, Place, Running, until
from .process import make_gateway

SECONDS = 5
"""What docs/gateway.md promises."""
Ending = tuple[dict[str, str], Callable[[], Any]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, entry: dict[str, Any]) -> Iterator[Place]:
    folder: Path = tmp_path_factory.mktemp("open")
    with ExitStack() as opened:
        yield Place(make_gateway(folder, json.dumps([entry])), opened)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def revoked(place: Place) -> Ending:
    token = place.gateway.new_token("--scope", "prefect own")
    jti = json.loads(decode(token.split(".")[1]))["jti"]
    return bearer(token), lambda: place.gateway.cli("revoke-token", jti)


def expired(place: Place) -> Ending:
    token = place.gateway.new_token("--scope", "prefect own", "--expires", "8s")
    return bearer(token), lambda: until(
        lambda: place.gateway.verify(token).status_code == 401, "the token's end"
    )


def key_gone(place: Place) -> Ending:
    token = place.gateway.new_token("--scope", "prefect own")

    def rotate() -> None:
        place.gateway.stop()
        place.gateway.env["GATEWAY_SIGNING_KEYS"] = json.dumps([key_entry("key-2")])
        place.gateway.start()

    return bearer(token), rotate


def signed_out(place: Place) -> Ending:
    session = place.gateway.log_in("--scope", "prefect own")
    headers = {"Cookie": f"{place.gateway.cookie_name}={session}", "Origin": place.front.url}
    return headers, lambda: httpx.post(f"{place.front.url}/auth/logout", headers=headers)


@pytest.mark.parametrize("ends", [revoked, expired, signed_out, key_gone], ids=lambda each: each.__name__)
def test_all_that_is_open_ends_with_its_credential_on_both_sides(
    place: Place, ends: Callable[[Place], Ending]
) -> None:
    bystander = place.socket("/own", bearer(place.gateway.new_token("--scope", "own")))
    headers, end = ends(place)
    ended = place.open("/prefect/api", headers)
    if ends is not signed_out:  # a session opens Prefect alone
        ended += place.open("/own", headers)
    end()
    until(lambda: all(each.ended() for each in ended), "the end at the client", SECONDS)
    until(lambda: set(KEPT_OPEN) <= {*place.service.gone}, "the end at the service", SECONDS)
    place.service.gone.clear()
    assert bystander.ended() == (ends is key_gone), "whose credential goes on stays"


def test_a_verifier_that_does_not_answer_ends_nothing(place: Place) -> None:
    held = place.socket("/own", bearer(place.gateway.new_token("--scope", "own")))
    place.gateway.stop()
    with socket.create_server(("127.0.0.1", int(place.gateway.env["GATEWAY_PORT"]))) as silent:
        silent.settimeout(30)
        silent.accept()[0].close()  # asked again, and no answer
    place.gateway.start()
    assert not held.ended()


class Outpost:
    """Authentik's part for one person: yes with a name while the session is there, else a redirect to the login."""

    def __init__(self) -> None:
        self.sessions = {b"proxy=jo"}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        known = dict(scope["headers"]).get(b"cookie") in self.sessions
        identity = [(b"x-authentik-username", b"jo"), (b"x-authentik-groups", b"readers")]
        headers = identity if known else [(b"location", b"https://sso.test/")]
        await send({"type": "http.response.start", "status": 200 if known else 302, "headers": headers})
        await send({"type": "http.response.body"})


def test_all_that_a_person_has_open_ends_when_single_sign_on_has_ended_the_session(
    tmp_path: Path, entry: dict[str, Any]
) -> None:
    gateway = make_gateway(tmp_path, json.dumps([entry]))
    gateway.env["GATEWAY_SSO"] = json.dumps({"groups": {"prefect": ["*"]}, "admins": []})
    with ExitStack() as opened:
        outpost = Outpost()
        running = Running(outpost)
        opened.callback(running.end)
        place = Place(gateway, opened, f"http://127.0.0.1:{running.port}")
        held = place.open("/prefect/api", {"Cookie": "proxy=jo", "Origin": place.front.url})
        asked = place.socket("/prefect/api", bearer(gateway.new_token()))
        outpost.sessions.clear()
        until(lambda: all(each.ended() for each in held), "the end at the client", SECONDS)
        assert not asked.ended()
