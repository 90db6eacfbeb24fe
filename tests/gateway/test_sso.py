"""The verifier's second look at people: a name, a group, no other site; whatever the outpost has said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prefect_platform.gateway.errors import UsageError
from prefect_platform.gateway.sso import parse

from .process import Gateway, make_gateway

POLICY = {"groups": {"prefect": ["admins", "Größe"], "open": ["*"]}, "admins": ["admins"]}
JO = [("X-Authentik-Username", "jo"), ("X-Authentik-Groups", "readers|admins")]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, entry: dict[str, Any]) -> Iterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("guarded")
    gateway = make_gateway(folder, json.dumps([entry]))
    gateway.env["GATEWAY_SSO"] = json.dumps(POLICY)
    gateway.start()
    yield gateway
    gateway.client.close()
    gateway.stop()


def test_a_member_comes_in_with_a_role(guarded: Gateway) -> None:
    answer = guarded.get("/verify/prefect/sso", JO)
    assert answer.status_code == 200
    told = {name: answer.headers[f"X-Platform-{name}"] for name in ("Subject", "User", "Role")}
    assert told == {"Subject": "user:jo", "User": "jo", "Role": "admin"}
    reader = guarded.get("/verify/open/sso", [("X-Authentik-Username", "eve"), ("X-Authentik-Groups", "")])
    assert (reader.status_code, reader.headers["X-Platform-Role"]) == (200, "user")


def test_names_and_groups_keep_their_letters(guarded: Gateway) -> None:
    headers = [(b"X-Authentik-Username", "jürgen".encode()), (b"X-Authentik-Groups", "Größe".encode())]
    answer = guarded.client.get(f"{guarded.url}/verify/prefect/sso", headers=headers)
    assert answer.status_code == 200
    raw = dict(answer.headers.raw)
    assert (
        next(value for name, value in raw.items() if name.lower() == b"x-platform-user") == "jürgen".encode()
    )


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("X-Authentik-Groups", "admins")],
        [("X-Authentik-Username", ""), ("X-Authentik-Groups", "admins")],
        [("X-Authentik-Username", "jo"), ("X-Authentik-Username", "eve"), ("X-Authentik-Groups", "admins")],
        [*JO, ("X-Authentik-Groups", "admins")],
        [("X-Authentik-Username", "x" * 300), ("X-Authentik-Groups", "admins")],
    ],
)
def test_a_yes_without_one_plain_name_is_refused(guarded: Gateway, headers: list[tuple[str, str]]) -> None:
    assert guarded.get("/verify/prefect/sso", headers).status_code == 401
    page = [*headers, ("Accept", "text/html"), ("X-Forwarded-Method", "GET")]
    answer = guarded.get("/verify/prefect/sso", page)
    assert answer.status_code == 401
    assert "Please sign in again" in answer.text


@pytest.mark.parametrize("groups", ["", "admin", "Admins", "admins2|x", "*", "admins,readers"])
def test_who_is_in_none_of_the_groups_is_refused(guarded: Gateway, groups: str) -> None:
    headers = [("X-Authentik-Username", "eve"), ("X-Authentik-Groups", groups)]
    assert guarded.get("/verify/prefect/sso", headers).status_code == 403
    page = guarded.get(
        "/verify/prefect/sso", [*headers, ("Accept", "text/html"), ("X-Forwarded-Method", "GET")]
    )
    assert "You are signed in as eve" in page.text
    assert "/outpost.goauthentik.io/sign_out" in page.text


def test_a_service_that_has_no_such_door_is_shut(guarded: Gateway, shared: Gateway) -> None:
    assert guarded.get("/verify/metrics/sso", JO).status_code == 403
    assert shared.get("/verify/prefect/sso", JO).status_code == 403


def test_a_page_cannot_be_made_to_show_markup(guarded: Gateway) -> None:
    name = [
        ("X-Authentik-Username", "<script>x</script>"),
        ("Accept", "text/html"),
        ("X-Forwarded-Method", "GET"),
    ]
    assert "<script" not in guarded.get("/verify/prefect/sso", name).text


@pytest.mark.parametrize("method", ["POST", "DELETE", "websocket"])
def test_other_sites_cannot_use_the_session(guarded: Gateway, method: str) -> None:
    proto = ("X-Forwarded-Proto", "ws" if method == "websocket" else "http")
    kind = ("X-Forwarded-Method", "GET" if method == "websocket" else method)
    here = [*JO, proto, kind, ("X-Forwarded-Host", "127.0.0.1:8123")]
    assert guarded.get("/verify/prefect/sso", [*here, ("Origin", "https://evil.test")]).status_code == 403
    assert guarded.get("/verify/prefect/sso", [*here, ("Origin", "http://127.0.0.1:8123")]).status_code == 200


def test_the_service_behind_gets_the_users_cookies_and_no_session(guarded: Gateway) -> None:
    cookies = ("Cookie", "a=1; authentik_proxy_0a1b=s; authentik_theme=dark; platform_session=p; b=2")
    answer = guarded.get("/verify/prefect/sso", [*JO, cookies])
    assert answer.headers["Cookie"] == "a=1; authentik_theme=dark; b=2"
    assert "cookie" not in guarded.get("/verify/prefect/sso", [*JO, ("Cookie", "authentik_proxy=s")]).headers


def test_a_script_is_told_that_it_is_signed_out(guarded: Gateway) -> None:
    answer = guarded.get("/sso/expired")
    assert answer.status_code == 401
    assert "Reload the page" in answer.json()["hint"]


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"groups": {"prefect": "admins"}, "admins": []}', "x", '{"groups": [], "admins": []}'],
)
def test_a_policy_that_cannot_be_meant_stops_the_start(text: str) -> None:
    with pytest.raises(UsageError, match="GATEWAY_SSO"):
        parse(text)
