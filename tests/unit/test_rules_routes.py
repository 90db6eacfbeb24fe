"""Rules of a user's own routes: what could be reached by two, and where none may lead."""

from __future__ import annotations

from typing import Any

import pytest

from prefect_platform.config.route_targets import platform_of
from prefect_platform.config.routes import routed
from prefect_platform.config.rules import cross_check
from prefect_platform.errors import ConfigError

from .conftest import Load

COMPOSE = {"target": "compose", "host": "root@203.0.113.7", "domain": "example.com"}
FLY = {"target": "fly", "fly": {"app": "my-app"}}
HOME = "prefect-local.example.com"


def _route(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"name": name, "url": "http://10.0.0.7:3000", "path": "/a", **more}


def _refusal(load: Load, values: dict[str, Any], *routes: dict[str, Any]) -> str:
    with pytest.raises(ConfigError, match=r"platform\.gateway\.routes") as refused:
        cross_check(load({**values, "gateway": {**values.get("gateway", {}), "routes": list(routes)}}))
    return refused.value.message


@pytest.mark.parametrize(
    ("values", "first", "second"),
    [
        ({}, {}, {}),
        ({}, {"path": "/a/b"}, {"path": "/A/b"}),
        ({}, {"host": "x.org"}, {"host": "X.org."}),
        (COMPOSE, {"host": HOME}, {}),
        (FLY, {}, {}),
    ],
)
def test_two_routes_for_the_same_requests_are_refused(
    load: Load, values: dict[str, Any], first: dict[str, Any], second: dict[str, Any]
) -> None:
    assert "has the host and path of 'a'" in _refusal(load, values, _route(**first), _route("b", **second))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8300", "http://localhost:8097", "http://127.0.0.1:8099", "http://127.0.0.1:4200", "http://127.0.0.1:8080",
        "http://[::1]:4200", "http://0.0.0.0:4200", "http://[::]:4200", "http://127.9.9.9:4200", "http://LOCALHOST.:4200",
        "http://x.localhost:4200", "http://[::ffff:127.0.0.1]:4200", "http://127.1:4200", "http://2130706433:4200",
        "http://0x7f000001:4200", "https://0177.0.0.1:4200",
    ],
)  # fmt: skip
@pytest.mark.parametrize("values", [{}, FLY, COMPOSE], ids=["local", "fly", "compose"])
def test_a_route_that_leads_into_the_platform_is_refused(
    load: Load, values: dict[str, Any], url: str
) -> None:
    assert "leads into the platform itself" in _refusal(load, values, _route(url=url))


@pytest.mark.parametrize(
    ("values", "url"),
    [
        ({"gateway": {"port": 80}}, "http://127.0.0.1"),
        ({"gateway": {"host": "192.168.1.5"}}, "http://192.168.1.5:8080"),
        ({"gateway": {"public_url": "https://prefect.example.com"}}, "https://PREFECT.example.com"),
        (COMPOSE, f"https://{HOME}"),
        (COMPOSE, "http://127.0.0.1:3000"),
        (COMPOSE, "http://platform-prefect-server-local:4200"),
        (COMPOSE, "http://platform-vault:8200"),
        (FLY, "https://my-app.fly.dev"),
    ],
)
def test_a_route_that_leads_back_to_the_platform_by_another_name_is_refused(
    load: Load, values: dict[str, Any], url: str
) -> None:
    assert "leads into the platform itself" in _refusal(load, values, _route(url=url))


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254", "http://169.254.0.1:8000", "http://[fe80::1]:80", "http://[fd00:ec2::254]", "http://100.100.100.200",
        "http://metadata.google.internal", "http://metadata", "http://2852039166", "http://[::ffff:169.254.169.254]",
    ],
)  # fmt: skip
@pytest.mark.parametrize("values", [{}, FLY, COMPOSE], ids=["local", "fly", "compose"])
def test_a_route_to_a_clouds_metadata_is_refused(load: Load, values: dict[str, Any], url: str) -> None:
    assert "metadata addresses are not allowed" in _refusal(load, values, _route(url=url))


def test_services_beside_the_platform_are_not_refused(load: Load) -> None:
    for values, url in (
        ({}, "http://127.0.0.1:3000"),
        (COMPOSE, "http://platform-authentik-server-local:9000"),
        (COMPOSE, "http://app:8080"),
        (COMPOSE, f"http://{HOME}:3000"),
        (FLY, "http://other.internal:8080"),
    ):
        cross_check(load({**values, "gateway": {"routes": [_route(url=url)]}}))


@pytest.mark.parametrize(
    ("values", "route", "said"),
    [
        (COMPOSE, {"host": HOME, "path": ""}, "without a path the route would take all of it"),
        (COMPOSE, {"path": ""}, "without a path the route would take all of it"),
        ({}, {"path": ""}, "a path or a host is required"),
        ({}, {"path": "/Prefect/x"}, "belong to the platform"),
        (FLY, {"path": "/AUTH"}, "belong to the platform"),
        ({}, {"path": "/metrics."}, "belong to the platform"),
    ],
)
def test_a_route_that_takes_the_platforms_place_is_refused(
    load: Load, values: dict[str, Any], route: dict[str, Any], said: str
) -> None:
    assert said in _refusal(load, values, _route(**route))


def test_the_longer_path_wins_whoever_it_is_for(load: Load) -> None:
    """A bearer of the parent's scope must not be answered by the parent below its child's path."""
    routes = [
        _route("top", path="/p", auth="sso-or-token", allowed_groups=["*"]),
        _route("sub", path="/p/x"),
        _route("named", path="/p", host="x.org"),
    ]
    chosen = load({**COMPOSE, "gateway": {"routes": routes}})
    found = {each.name: each for each in routed(chosen.values["gateway"]["routes"], platform_of(chosen))}
    assert found["top"].priority + 9 < found["named"].priority < found["sub"].priority
    assert {name: each.sandboxed for name, each in found.items()} == {
        "top": True,
        "sub": True,
        "named": False,
    }
