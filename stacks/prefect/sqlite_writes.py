"""Make Prefect's SQLite write transactions wait for each other instead of failing.

Stock Prefect begins its transactions DEFERRED: they read, then write. When another connection has committed
in between, SQLite answers BUSY at once (no timeout applies) and Prefect refuses the request with 503. The
cure:

1. every transaction that Prefect opens explicitly begins IMMEDIATE, so it takes the write lock before it
   reads. Plain reads open no transaction in Prefect (`session_context()` without `begin_transaction`) and
   stay untouched;
2. the tasks of this process queue for that lock in order of arrival. SQLite's own waiting polls with growing
   sleeps, is not fair (p99 of 16 clients: 4.0 s, with the queue 0.64 s), and each waiter would occupy one of
   the 15 pooled connections that readers need, too.

Remove this module when Prefect does it itself.
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

KNOWN_PREFECT_VERSIONS = frozenset({"3.8.8"})
"""Versions on which the concurrency tests of this project have run."""

TURN_WAIT_SECONDS = 30.0
"""After this wait a task goes on without its turn: SQLite's own lock (busy_timeout 60 s) keeps it correct."""

_queues: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()


class _Turn:
    """One task's stay in the write section; inactive at its end, as child tasks inherit the variable."""

    def __init__(self) -> None:
        self.task = asyncio.current_task()
        self.active = True


_turn: ContextVar[_Turn | None] = ContextVar("sqlite_write_turn", default=None)


def unsupported_reason() -> str | None:
    """Return why this Prefect must not be patched, or None when it looks as expected."""
    import prefect
    from prefect.server.database import configurations

    if prefect.__version__ not in KNOWN_PREFECT_VERSIONS:
        known = ", ".join(sorted(KNOWN_PREFECT_VERSIONS))
        return f"Prefect {prefect.__version__} is not one of the tested versions ({known})"
    if not isinstance(getattr(configurations, "SQLITE_BEGIN_MODE", None), ContextVar):
        return "prefect.server.database.configurations.SQLITE_BEGIN_MODE is not a context variable"
    method = getattr(getattr(configurations, "AioSqliteConfiguration", None), "begin_transaction", None)
    if method is None or list(inspect.signature(method).parameters) != ["self", "session", "with_for_update"]:
        return "AioSqliteConfiguration.begin_transaction has another signature"
    return None


def apply() -> None:
    """Patch the SQLite configuration class. Postgres uses another class and is never touched."""
    from prefect.server.database.configurations import SQLITE_BEGIN_MODE, AioSqliteConfiguration

    @asynccontextmanager
    async def begin_transaction(
        self: Any, session: Any, with_for_update: bool = False
    ) -> AsyncGenerator[Any, None]:
        outer = _turn.get()
        if outer is not None and outer.active and outer.task is asyncio.current_task():
            # A transaction inside a transaction of the same task: waiting for ourselves would be a deadlock.
            mode = SQLITE_BEGIN_MODE.set("IMMEDIATE" if with_for_update else "DEFERRED")
            try:
                async with session.begin() as transaction:
                    yield transaction
            finally:
                SQLITE_BEGIN_MODE.reset(mode)
            return
        async with _take_turn():
            mode = SQLITE_BEGIN_MODE.set("IMMEDIATE")
            try:
                async with session.begin() as transaction:
                    yield transaction
            finally:
                SQLITE_BEGIN_MODE.reset(mode)

    # The patch itself:
    AioSqliteConfiguration.begin_transaction = begin_transaction  # type: ignore[method-assign]


@asynccontextmanager
async def _take_turn() -> AsyncGenerator[None, None]:
    loop = asyncio.get_running_loop()
    queue = _queues.setdefault(loop, asyncio.Lock())
    owned = await _acquire(queue)
    turn = _Turn()
    token = _turn.set(turn)
    try:
        yield
    finally:
        turn.active = False
        _turn.reset(token)
        if owned:
            queue.release()


async def _acquire(queue: asyncio.Lock) -> bool:
    if not queue.locked():
        # Uncontended: no timer. Lock.acquire() still queues behind earlier waiters.
        return await queue.acquire()
    try:
        return await asyncio.wait_for(queue.acquire(), TURN_WAIT_SECONDS)
    except TimeoutError:
        return False
