"""The state of a stand-in: in memory, or in PostgreSQL, where server and worker share it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Protocol

import asyncpg

from .state import Json, empty


class Store(Protocol):
    def open(self) -> contextlib.AbstractAsyncContextManager[Json]: ...


class Memory:
    """One process; `state` can be looked at and changed by a test."""

    def __init__(self) -> None:
        self.state = empty()
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Json]:
        async with self._lock:
            yield self.state


class Postgres:
    """One row of JSON, locked while it is changed."""

    def __init__(self, **place: str) -> None:
        self._place = place

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Json]:
        connection = await asyncpg.connect(**self._place, timeout=10)
        try:
            await connection.execute("CREATE TABLE IF NOT EXISTS standin (one int PRIMARY KEY, body text)")
            await connection.execute(
                "INSERT INTO standin VALUES (1, $1) ON CONFLICT DO NOTHING", json.dumps(empty())
            )
            async with connection.transaction():
                state = json.loads(
                    await connection.fetchval("SELECT body FROM standin WHERE one = 1 FOR UPDATE")
                )
                yield state
                await connection.execute("UPDATE standin SET body = $1 WHERE one = 1", json.dumps(state))
        finally:
            await connection.close()
