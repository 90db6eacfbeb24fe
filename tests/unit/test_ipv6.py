"""A name with an AAAA record is served there, or setup says that it is not."""

from __future__ import annotations

import pytest

from prefect_platform.config import stack
from prefect_platform.operations.preconditions import without_ipv6
from prefect_platform.planning import render
from prefect_platform.targets.compose import names

from .conftest import ROOT, TRAITS, Load


@pytest.mark.parametrize(
    ("publish", "ports"),
    [
        ("0.0.0.0", ["0.0.0.0:80:8080", "0.0.0.0:443:8443"]),
        ("::", ["80:8080", "443:8443"]),
        ("2001:db8::1", ["[2001:db8::1]:80:8080", "[2001:db8::1]:443:8443"]),
    ],
)
def test_an_address_to_publish_on_is_written_as_compose_reads_it(
    load: Load, publish: str, ports: list[str]
) -> None:
    here = {"target": "compose", "host": "h", "domain": "example.com", "traefik": {"publish": publish}}
    settings = load({"environments": {"here": here}}, env="here", root=ROOT)
    each = stack.for_target(stack.read_all(ROOT), TRAITS["compose"])["traefik"]
    built = render.build(each.as_set(settings.values["traefik"]), settings, names.where(settings, each.scope))
    assert built.compose["services"]["gateway"]["ports"] == ports


@pytest.mark.parametrize(
    ("publish", "addresses", "says"),
    [
        ("0.0.0.0", ["2001:db8::1"], True),
        ("203.0.113.7", ["2001:db8::1"], True),
        ("0.0.0.0", [], False),
        ("::", ["2001:db8::1"], False),
        ("2001:db8::1", ["2001:db8::1"], False),
    ],
)
def test_an_aaaa_record_that_nothing_serves_is_said(publish: str, addresses: list[str], says: bool) -> None:
    said = without_ipv6(publish, "prefect.example.com", addresses)
    assert bool(said) == says
    if says:
        assert "prefect.example.com has an AAAA record (2001:db8::1)" in said
        assert 'set it to "::"' in said
