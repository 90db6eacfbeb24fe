"""Which requests keep a Fly machine awake, as Traefik counts them."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from prefect_platform.targets.fly import render

LINE = 'traefik_router_requests_total{{code="{code}",method="GET",protocol="http",router="{router}@file",service="x@file"}} {number}'


@pytest.fixture(scope="module")
def sleep() -> ModuleType:
    """The machine's program: it stands alone, as it will there."""
    spec = importlib.util.spec_from_file_location("sleep", render.PROGRAMS / "sleep.py")
    assert spec
    assert spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def _metrics(*counted: tuple[str, str, str]) -> str:
    head = "# HELP traefik_router_requests_total How many HTTP requests are processed on a router"
    lines = [LINE.format(router=router, code=code, number=number) for router, code, number in counted]
    return "\n".join([head, *lines, 'traefik_open_connections{entrypoint="web",protocol="TCP"} 3', ""])


def test_what_somebody_meant_counts(sleep: ModuleType) -> None:
    text = _metrics(("prefect", "200", "7"), ("prefect", "101", "1"), ("route-api", "502", "2e+00"))
    assert sleep.requests(text) == 10


@pytest.mark.parametrize("router", ["ping", "prefect-ready", "ops-metrics", "ops-ping"])
def test_what_the_platform_itself_asks_does_not(sleep: ModuleType, router: str) -> None:
    assert sleep.requests(_metrics((router, "200", "50"))) == 0


def test_what_stays_open_counts_while_the_verifier_lets_it(sleep: ModuleType) -> None:
    """It is asked about every open socket again and again, whose own request is counted only when it ends."""
    assert sleep.requests(_metrics(("internal-verify", "200", "5"))) == 5
    for code in ("302", "401", "403", "500"):
        assert sleep.requests(_metrics(("internal-verify", code, "50"))) == 0


@pytest.mark.parametrize("code", ["400", "401", "403", "404", "429"])
def test_what_was_refused_does_not(sleep: ModuleType, code: str) -> None:
    """Somebody who scans all addresses would keep every machine awake."""
    assert sleep.requests(_metrics(("prefect", code, "50"))) == 0
