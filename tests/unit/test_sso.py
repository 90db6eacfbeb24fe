"""Settings of the doors for people, what the status line says of each failure, and the network that Authentik trusts."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from prefect_platform.checks import sso as sso_probe
from prefect_platform.checks.spec import CheckSpec
from prefect_platform.config import sso, stack
from prefect_platform.errors import CheckFailed, ConfigError
from prefect_platform.planning import render
from prefect_platform.targets.compose import names

from .conftest import ROOT, TRAITS, Load

COMPOSE = {"target": "compose", "host": "root@203.0.113.7", "domain": "example.com"}
HOST = "prefect.example.com"
SIGN_ON = "https://sso.example.com"
BACK = "redirect_uri=https%3A%2F%2Fprefect.example.com%2Foutpost.goauthentik.io%2Fcallback%3FX-authentik-auth-callback%3Dtrue"
GOOD = f"{SIGN_ON}/application/o/authorize/?client_id=x&{BACK}"


def _route(**more: Any) -> dict[str, Any]:
    return {
        "name": "grafana",
        "host": "grafana.example.com",
        "url": "http://10.0.0.7:3000",
        "auth": "sso",
        **more,
    }


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"prefect": {"auth": "sso-or-token", "allowed_groups": []}},
            "platform.prefect: allowed_groups is empty",
        ),
        ({"gateway": {"routes": [_route()]}}, "platform.gateway.routes: grafana: allowed_groups is empty"),
        (
            {"prefect": {"auth": "sso-or-token", "allowed_groups": ["*", "admins"]}},
            'allowed_groups: "\\*" already includes',
        ),
        ({"prefect": {"auth": "sso-or-token"}, "domain": None}, "platform.authentik.public_url: not set"),
        (
            {"prefect": {"auth": "sso-or-token"}, "authentik": {"public_url": "https://prefect.example.com"}},
            "is also the host of a protected route",
        ),
        ({"prefect": {"auth": "sso-or-token"}, "target": "local"}, "this is local"),
    ],
)
def test_settings_that_cannot_work(load: Load, values: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        sso.validate(load({**COMPOSE, **values}), HOST)


def test_an_authentik_elsewhere_has_no_file_of_routes(load: Load) -> None:
    """An empty one made Traefik keep all the routes it had, those of the login link."""
    elsewhere = load({**COMPOSE, "prefect": {"auth": "sso-or-token"}, "authentik": {"url": SIGN_ON}})
    ours = load({**COMPOSE, "prefect": {"auth": "sso-or-token"}})
    authentik = stack.for_target(stack.read_all(ROOT), TRAITS["compose"])["authentik"]
    for settings, served in ((elsewhere, False), (ours, True)):
        where = names.where(settings, "environment")
        assert bool(render.build(authentik, settings, where).routes) is served


def test_the_doors(load: Load) -> None:
    routes = [_route(allowed_groups=["*"]), {"name": "api", "path": "/api-of-ours", "url": "http://x:1"}]
    chosen = load({**COMPOSE, "prefect": {"auth": "sso-or-token"}, "gateway": {"routes": routes}})
    sso.validate(chosen, HOST)
    found = sso.doors(chosen, HOST, "platform-authentik-server")
    assert found
    assert (found.url, found.outpost) == (
        "https://sso-local.example.com",
        "http://platform-authentik-server:9000",
    )
    assert found.hosts == (HOST, "grafana.example.com")
    assert found.policy == '{"groups": {"grafana": ["*"], "prefect": ["admins"]}, "admins": ["admins"]}'
    assert sso.doors(load(COMPOSE), HOST, "x") is None


def test_a_group_cannot_smuggle_anything_into_traefik_s_files(load: Load) -> None:
    for name in ("{{ env `X` }}", "a`b", 'a"b', "a|b", ""):
        with pytest.raises(ConfigError, match="allowed_groups"):
            load({**COMPOSE, "prefect": {"allowed_groups": [name]}})


# -- what `status` says
def _seen(status: int, location: str = "", text: str = "") -> str:
    """What the probe makes of an answer."""
    spec = CheckSpec("https://prefect.example.com", "", "3.8.8", ui_path="", sso_url=SIGN_ON)
    headers = {"Location": location} if location else {}

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=headers, text=text)

    with httpx.Client(base_url=spec.public_url, transport=httpx.MockTransport(answer)) as client:
        try:
            return sso_probe.sso(spec, client)
        except CheckFailed as error:
            return error.reason


def test_a_door_that_is_well() -> None:
    assert _seen(302, GOOD) == f"302 to {SIGN_ON}, and from there back here"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200,), "Prefect answers without authentication"),
        ((400, "", "no app for hostname prefect.example.com"), "does not serve this host"),
        ((404,), "does not serve this host"),
        ((500,), "Authentik does not answer"),
        ((502,), "Authentik does not answer"),
        (
            (302, GOOD.replace(SIGN_ON, "http://0.0.0.0:9000")),
            "leads to '?0.0.0.0:9000'?, where no browser can sign in",
        ),
        ((302, GOOD.replace("https://sso", "http://sso")), "does not trust the gateway's address"),
        ((302, GOOD.replace("prefect.example.com", "other.example.com")), "Redirect URI Error"),
        ((302, f"{SIGN_ON}/if/flow/"), "sent to nowhere"),
        ((401,), "expected a redirect to the login"),
    ],
)
def test_each_failure_has_its_words(answer: tuple[Any, ...], said: str) -> None:
    import re

    assert re.search(said, _seen(*answer)), _seen(*answer)


# -- stacks/authentik/start.py
def _start() -> Any:
    place = importlib.util.spec_from_file_location(
        "authentik_start", ROOT / "stacks" / "authentik" / "start.py"
    )
    assert place
    assert place.loader
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
DEFAULT = "eth1\t00000000\t010112AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
EDGE = "eth1\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
DATA = "eth0\t0002790A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"


def test_the_network_with_the_way_out_is_the_gateway_s() -> None:
    assert _start().gateway_network(HEAD + DEFAULT + DATA + EDGE) == "172.18.0.0/16"
    with pytest.raises(ValueError, match="no network with a way out"):
        _start().gateway_network(HEAD + DATA)
