"""A scope that would open nothing is refused, with those that exist."""

from __future__ import annotations

import pytest

from prefect_platform.config import routes
from prefect_platform.errors import ConfigError

OWN = [
    {"name": "api", "auth": "token"},
    {"name": "both", "auth": "sso-or-token"},
    {"name": "open", "auth": "public"},
    {"name": "people", "auth": "sso"},
]


@pytest.mark.parametrize("text", ["prefect", "prefect:read", "metrics", "api", "prefect metrics api both"])
def test_a_scope_that_opens_something(text: str) -> None:
    routes.check_scopes(OWN, text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prefct", "--scope 'prefct': no such scope"),
        ("prefect admin", "--scope 'admin': no such scope"),
        ("PREFECT", "--scope 'PREFECT': no such scope"),
        ("prefect,metrics", "--scope 'prefect,metrics': no such scope"),
        ("", "--scope '': no such scope"),
        ("open", "--scope 'open': that route takes no tokens (auth: public)"),
        ("people", "--scope 'people': that route takes no tokens (auth: sso)"),
        ("api:read", "--scope 'api:read': no such scope"),
    ],
)
def test_a_scope_that_opens_nothing(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        routes.check_scopes(OWN, text)
    assert refused.value.reason == says
    assert "prefect, prefect:read, metrics, api, both" in refused.value.hint
