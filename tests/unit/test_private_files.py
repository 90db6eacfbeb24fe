"""Files of the operator that only Traefik reads: another content reaches it, by its routes or by a new start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prefect_platform.config import stack
from prefect_platform.planning import render
from prefect_platform.targets.compose import names

from .conftest import ROOT, TRAITS, Load

KINDS: dict[str, dict[str, Any]] = {
    "certificate": {"tls": "own", "private_key": "key.pem"},
    "acme_ca_cert": {"acme_server": "https://ca.example.com/acme"},
    "acme_dns_credentials": {"acme_dns_provider": "cloudflare"},
}


@pytest.mark.parametrize("key", KINDS)
def test_another_content_reaches_traefik(load: Load, tmp_path: Path, key: str) -> None:
    given = tmp_path / "given"
    section = {**KINDS[key], key: str(given)}
    chosen = load({"target": "compose", "host": "root@203.0.113.7", "domain": "example.com"}, root=ROOT)
    chosen.values["traefik"] |= section
    traefik = stack.for_target(stack.read_all(ROOT), TRAITS["compose"])["traefik"]

    def rendered(content: str) -> Any:
        given.write_text(content)
        built = render.build(traefik, chosen, names.where(chosen, traefik.scope))
        # Its routes it rereads by itself; with another service it is made anew.
        return built.compose["services"]["gateway"], built.routes

    before = rendered("TOKEN=one")
    assert rendered("TOKEN=two") != before
    assert rendered("TOKEN=one") == before
