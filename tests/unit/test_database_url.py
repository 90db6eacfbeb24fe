"""The URL of a PostgreSQL elsewhere, as providers write it."""

from __future__ import annotations

from typing import Any

import pytest

from prefect_platform.config import database_url, rules
from prefect_platform.errors import ConfigError

from .conftest import Load

DIRECT = "postgresql://postgres@db.abcdefgh.supabase.co:5432/postgres"
POOLED = "postgres://postgres.abcdefgh@aws-0-eu-central-1.pooler.supabase.com:6543/postgres"


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        (
            DIRECT,
            {
                "host": "db.abcdefgh.supabase.co",
                "port": 5432,
                "user": "postgres",
                "sslmode": "require",
                "pooled": False,
            },
        ),
        (POOLED, {"port": 6543, "user": "postgres.abcdefgh", "sslmode": "require", "pooled": True}),
        (f"{POOLED}?pgbouncer=false", {"pooled": False}),
        (f"{DIRECT}?pgbouncer=true&sslmode=disable", {"pooled": True, "sslmode": "disable"}),
        (
            f"{DIRECT}?sslmode=verify-full&sslrootcert=/data/ca.crt",
            {"sslmode": "verify-full", "sslrootcert": "/data/ca.crt"},
        ),
        ("postgresql+asyncpg://a@localhost/b", {"port": 5432, "sslmode": "prefer", "notes": ()}),
        ("postgresql://a%40b@db.internal/c%20d", {"user": "a@b", "name": "c d", "sslmode": "prefer"}),
    ],
)
def test_what_prefect_is_told(url: str, wanted: dict[str, Any]) -> None:
    found = database_url.parse(url)
    assert {name: getattr(found, name) for name in wanted} == wanted


def test_what_was_read_differently_is_told() -> None:
    told = " ".join(database_url.parse(POOLED).notes)
    assert "postgres:// is read as postgresql+asyncpg://" in told
    assert "port 6543 is a transaction pooler" in told
    assert "TLS is required" in told


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://a@b/c", "mysql: must be a PostgreSQL URL"),
        ("postgresql://a:secret@b/c", "holds a password"),
        ("postgresql://a@b", "no name of the database"),
        ("postgresql://b/c", "no user"),
        ("postgresql:///c", "no host"),
        ("postgresql://a@b:99999/c", "not a URL with a port"),
        (f"{DIRECT}?sslmode=on", "sslmode=on: one of"),
        (f"{DIRECT}?sslmode=verify-full", "needs the provider's root certificate"),
        (f"{DIRECT}?options=x", "?options= is not supported"),
    ],
)
def test_what_cannot_be_meant(url: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        database_url.parse(url)
    assert said in error.value.reason
    assert "platform.prefect.database_url" in error.value.reason
    assert "secret" not in error.value.reason


def test_only_one_machine_has_it_elsewhere(load: Load) -> None:
    settings = load(
        {"target": "compose", "host": "h", "domain": "example.com", "prefect": {"database_url": DIRECT}}
    )
    with pytest.raises(ConfigError, match="target compose runs its own PostgreSQL"):
        rules.cross_check(settings)
