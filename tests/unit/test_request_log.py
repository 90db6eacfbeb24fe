"""The request log, from its configuration: no stranger gets a line into it, and no field in it is of the caller's making."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from prefect_platform.config import stack
from prefect_platform.planning import render
from prefect_platform.planning.bundle import Bundle
from prefect_platform.targets.compose import names
from prefect_platform.targets.fly import render as machine

from .conftest import ROOT, TRAITS, Load, where

ROUTES = [
    {"name": "open", "path": "/open", "url": "http://open:1", "auth": "public"},
    {"name": "closed", "path": "/closed", "url": "http://closed:1"},
]
SSO = [*ROUTES, {"name": "people", "path": "/people", "url": "http://people:1", "auth": "sso-or-token"}]
CASES: dict[str, dict[str, Any]] = {
    "local": {"target": "local", "gateway": {"routes": ROUTES}},
    "compose": {"target": "compose", "host": "h", "domain": "example.com", "gateway": {"routes": ROUTES}},
    "sso": {
        "target": "compose",
        "host": "h",
        "domain": "example.com",
        "gateway": {"routes": SSO},
        "prefect": {"auth": "sso-or-token"},
    },
    "fly": {"target": "fly", "fly": {"app": "app"}, "gateway": {"routes": ROUTES}},
}


@pytest.fixture(params=CASES)
def bundles(request: pytest.FixtureRequest, load: Load) -> dict[str, Bundle]:
    values = CASES[request.param]
    settings = load({"environments": {"here": values}}, env="here", root=ROOT)
    target = values["target"]
    built = {}
    for each in stack.for_target(stack.read_all(ROOT), TRAITS[target]).values():
        place = where(each.name) if target == "local" else machine.where(each.name)
        if target == "compose":
            place = names.where(settings, each.scope)
        built[each.name] = render.build(each.as_set(settings.values[each.section]), settings, place)
    return built


def _routers(bundles: dict[str, Bundle]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(name, router, all middlewares) of each that a client can reach."""
    parsed = [yaml.safe_load(each.routes) for each in bundles.values() if each.routes]
    middlewares = {
        name: spec for each in parsed for name, spec in each["http"].get("middlewares", {}).items()
    }
    for each in parsed:
        for name, router in each["http"]["routers"].items():
            if router["entryPoints"][0] in ("web", "websecure") and router["service"] != "ping@internal":
                yield name, router, middlewares


def test_what_is_open_to_strangers_is_not_in_the_request_log(bundles: dict[str, Bundle]) -> None:
    for name, router, middlewares in _routers(bundles):
        named = [middlewares[each] for each in router.get("middlewares", [])]
        inside = [middlewares[each] for one in named for each in one.get("chain", {}).get("middlewares", [])]
        # What takes our cookies away asks the verifier as well, and refuses nobody.
        asked = [each["forwardAuth"]["address"] for each in (*named, *inside) if "forwardAuth" in each]
        guarded = any(not address.endswith("/cookies") for address in asked)
        quiet = router.get("observability", {}).get("accessLogs") is False
        assert guarded != quiet, name


def test_a_logged_request_has_lost_the_callers_identity_headers_first(bundles: dict[str, Bundle]) -> None:
    for name, router, _ in _routers(bundles):
        if "observability" not in router:
            assert router["middlewares"][0].endswith("drop-identity"), name


def test_what_no_router_wants_and_what_is_too_long_is_answered_without_a_line(
    bundles: dict[str, Bundle],
) -> None:
    routers = {name: router for name, router, _ in _routers(bundles)}
    assert routers["nowhere"]["priority"] == min(each["priority"] for each in routers.values())
    assert routers["too-long"]["priority"] == max(each["priority"] for each in routers.values())


def test_refusals_and_what_callers_choose_stay_out_of_the_request_log(bundles: dict[str, Bundle]) -> None:
    static = yaml.safe_load(bundles["traefik"].files["traefik.yml"])
    log = static["accessLog"]
    logged = [tuple(map(int, f"{each}-{each}".split("-")[:2])) for each in log["filters"]["statusCodes"]]
    for status in (400, 401, 429, 499):
        assert not any(first <= status <= last for first, last in logged), status
    assert any(first == 0 for first, _ in logged), "WebSockets, which have no status"
    assert log["fields"]["names"]["ClientUsername"] == "drop"
    assert log["fields"]["queryParameters"] == {"defaultMode": "drop"}
    for name, entry in static["entryPoints"].items():
        quiet = entry.get("observability", {}).get("accessLogs") is False
        assert quiet or entry["http"]["maxHeaderBytes"] <= 65536, name


def test_authentik_does_not_log_queries(load: Load) -> None:
    settings = load({"environments": {"here": CASES["sso"]}}, env="here", root=ROOT)
    each = stack.for_target(stack.read_all(ROOT), TRAITS["compose"])["authentik"]
    built = render.build(
        each.as_set(settings.values["authentik"]), settings, names.where(settings, each.scope)
    )
    for service in built.compose["services"].values():
        assert service["environment"]["AUTHENTIK_LOG_LEVEL"] == "warning"
