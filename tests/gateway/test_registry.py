"""What one verifier process knows, on a real SQLite store, without HTTP."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from prefect_platform.gateway import registry as module
from prefect_platform.gateway.database import parse
from prefect_platform.gateway.errors import Refused, StoreUnavailable
from prefect_platform.gateway.registry import Registry
from prefect_platform.gateway.store import Store
from prefect_platform.gateway.tokens import Claims, Kind, grant


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(parse(f"sqlite:///{tmp_path}/gateway.db"))


async def outcome(registry: Registry, claims: Claims) -> str:
    try:
        await registry.require_live(claims)
    except Refused:
        return "refused"
    except StoreUnavailable:
        return "unavailable"
    return "live"


def test_unknown_tokens_cannot_flood_the_database(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKUPS_PER_SECOND", 1)

    async def flood() -> list[str]:
        registry = Registry(store, 300)
        await registry.refresh()
        unknown = (grant(Kind.TOKEN, "a", "b", "prefect", 60) for _ in range(20))
        outcomes = [await outcome(registry, claims) for claims in unknown]
        await store.close()
        return outcomes

    outcomes = asyncio.run(flood())
    assert outcomes[0] == "refused"
    assert "unavailable" in outcomes


def test_an_unknown_token_is_looked_up_once_a_second_at_most(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 3600)
    claims = grant(Kind.TOKEN, "a", "b", "prefect", 60)

    async def ask_create_ask() -> tuple[str, str]:
        registry = Registry(store, 300)
        await registry.refresh()
        before = await outcome(registry, claims)
        await store.add(claims, "")
        after = await outcome(registry, claims)
        await store.close()
        return before, after

    assert asyncio.run(ask_create_ask()) == ("refused", "refused")


def test_a_token_deleted_before_the_next_poll_is_missed(store: Store, tmp_path: Path) -> None:
    """Between two polls it was created, used and deleted: the counts are the same as before."""
    claims = grant(Kind.TOKEN, "a", "b", "prefect", 60)

    async def use_delete_poll() -> tuple[str, str]:
        registry = Registry(store, 300)
        await registry.refresh()
        await store.add(claims, "")
        before = await outcome(registry, claims)
        with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as connection:
            connection.execute("DELETE FROM gateway_tokens")
        await registry.refresh()
        after = await outcome(registry, claims)
        await store.close()
        return before, after

    assert asyncio.run(use_delete_poll()) == ("live", "refused")


def test_last_used_survives_a_store_that_is_away(store: Store, tmp_path: Path) -> None:
    claims = grant(Kind.TOKEN, "a", "b", "prefect", 60)
    database, away = tmp_path / "gateway.db", tmp_path / "away"

    async def use_lose_flush() -> int | None:
        registry = Registry(store, 300)
        await registry.refresh()
        await store.add(claims, "")
        assert await outcome(registry, claims) == "live"
        database.rename(away)
        await registry.flush()
        away.rename(database)
        await registry.flush()
        [record] = await store.records()
        await store.close()
        return record.last_used_at

    used = asyncio.run(use_lose_flush())
    assert used is not None
    assert abs(used - time.time()) < 3600


def test_last_used_never_goes_back(store: Store) -> None:
    claims = grant(Kind.TOKEN, "a", "b", "prefect", 60)

    async def mark_twice() -> int | None:
        await store.prepare()
        await store.add(claims, "")
        await store.mark_used({claims.jti: 2_000_000_000})
        await store.mark_used({claims.jti: 1_000_000_000})
        [record] = await store.records()
        await store.close()
        return record.last_used_at

    assert asyncio.run(mark_twice()) == 2_000_000_000
