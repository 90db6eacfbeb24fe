"""Two environments of a host have one Traefik: whoever is set up last would take the other's ports away."""

from __future__ import annotations

from typing import Any

import pytest

from prefect_platform.config import shared_host
from prefect_platform.errors import ConfigError

from .conftest import Load

VPS = {"target": "compose", "host": "root@203.0.113.7"}


def _check(load: Load, common: dict[str, Any], alpha: dict[str, Any], beta: dict[str, Any]) -> None:
    environments = {"alpha": {**VPS, **alpha}, "beta": {**VPS, **beta}}
    shared_host.refuse_differences(load({**common, "environments": environments}, env="alpha"))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("traefik", "http_port", 8080),
        ("traefik", "tls", "off"),
        ("gateway", "ops_port", 9999),
        ("gateway", "max_body_mb", 64),
        ("vault", "memory", "1g"),
    ],
)
def test_a_difference_in_what_they_share_is_refused(
    load: Load, section: str, key: str, value: str | int
) -> None:
    for alpha, beta in (({section: {key: value}}, {}), ({}, {section: {key: value}})):
        with pytest.raises(
            ConfigError, match=rf"alpha and beta share {section} on .*another {key}"
        ) as refused:
            _check(load, {}, alpha, beta)
        assert f"platform.{section}.{key}" in refused.value.hint
    _check(load, {section: {key: value}}, {}, {})


def test_what_is_an_environment_s_own_may_differ(load: Load) -> None:
    _check(load, {}, {"gateway": {"max_open_per_token": 10}, "postgres": {"memory": "1g"}}, {})
    _check(load, {}, {"vault": {"address": "https://vault.example.com:8200", "memory": "1g"}}, {})
    _check(load, {}, {"traefik": {"http_port": 8080}}, {"host": "root@203.0.113.8"})
    _check(load, {}, {"traefik": {"http_port": 8080}}, {"target": "local", "host": None})
