"""The audit store: every token and session ever issued, and the login codes. The only place with SQL."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, insert, inspect, or_, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from prefect_platform.gateway.database import Database, make_engine, make_file
from prefect_platform.gateway.errors import GatewayError, StoreUnavailable
from prefect_platform.gateway.schema import LOGIN_CODES, METADATA, TOKENS
from prefect_platform.gateway.tokens import Claims, Kind

OPERATION_SECONDS = 8.0
# SQLSTATEs after which waiting helps: starting up, shutting down, too many connections, connection lost,
# read-only standby.
_PASSING = ("57P0", "53300", "08", "25006")
_SCHEMA_LOCK = 0x70726566


@dataclass(frozen=True)
class Record:
    """One row of gateway_tokens. Times are unix seconds."""

    jti: str
    kind: str
    subject: str
    project: str
    service: str
    description: str
    scope: str
    issued_at: int
    expires_at: int
    revoked_at: int | None
    last_used_at: int | None

    def state(self, now: float) -> str:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at <= now else "active"


class Store:
    """Every method raises StoreUnavailable when waiting may help, GatewayError (one clear line) when it does
    not.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._engine = make_engine(database)
        self._writer = self._engine.execution_options(write=True)
        self._inode: tuple[int, int] | None = None

    async def prepare(self) -> None:
        """Creates file and tables where they are missing.

        Checks first: a role without the right to create needs none.
        """
        make_file(self._database)
        async with self._reading() as connection:
            present = await connection.run_sync(lambda sync: set(inspect(sync).get_table_names()))
        if METADATA.tables.keys() <= present:
            return
        async with self._writing() as connection:
            postgres = self._database.path is None
            if (
                postgres
            ):  # two first starts at once: CREATE TABLE IF NOT EXISTS alone is not safe against that
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
            await connection.run_sync(METADATA.create_all)
            if (
                postgres
            ):  # hosters such as Supabase serve the public schema over HTTP: the owner alone may see these
                for name in METADATA.tables:
                    await connection.execute(text(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"))

    async def close(self) -> None:
        await self._engine.dispose()

    async def add(self, claims: Claims, description: str) -> None:
        row = {
            "jti": claims.jti,
            "kind": claims.kind.value,
            "subject": claims.subject,
            "project": claims.project,
            "service": claims.service,
            "description": description,
            "scope": claims.scope,
            "issued_at": claims.issued_at,
            "expires_at": claims.expires_at,
        }
        async with self._writing() as connection:
            await connection.execute(insert(TOKENS).values(row))

    async def records(self, prefix: str = "") -> list[Record]:
        """All rows whose jti begins with `prefix` (hexadecimal), oldest first."""
        query = (
            select(TOKENS).where(TOKENS.c.jti.startswith(prefix)).order_by(TOKENS.c.issued_at, TOKENS.c.jti)
        )
        async with self._reading() as connection:
            return [Record(**row) for row in (await connection.execute(query)).mappings()]

    async def ending(self, now: int, soon: int, used: int) -> list[Record]:
        """Tokens that end within `soon` seconds and were used within the last `used`, the first to end first."""
        column = TOKENS.c
        valid = and_(column.kind == Kind.TOKEN, column.revoked_at.is_(None), column.expires_at > now)
        wanted = and_(valid, column.expires_at <= now + soon, column.last_used_at >= now - used)
        query = select(TOKENS).where(wanted).order_by(column.expires_at, column.jti)
        async with self._reading() as connection:
            return [Record(**row) for row in (await connection.execute(query)).mappings()]

    async def revoke(self, jti: str, now: int) -> bool:
        """True if this call revoked it, False if it was revoked before or never existed."""
        query = (
            update(TOKENS).where(TOKENS.c.jti == jti, TOKENS.c.revoked_at.is_(None)).values(revoked_at=now)
        )
        async with self._writing() as connection:
            return (await connection.execute(query)).rowcount == 1

    async def mark_used(self, used: Mapping[str, int]) -> None:
        """last_used_at per jti; never backwards, as several verifiers may share the store."""
        column = TOKENS.c.last_used_at
        async with self._writing() as connection:
            for jti, moment in used.items():
                newer = or_(column.is_(None), column < moment)
                await connection.execute(
                    update(TOKENS).where(TOKENS.c.jti == jti, newer).values(last_used_at=moment)
                )

    async def fingerprint(self, now: int) -> tuple[Any, ...]:
        """Changes whenever a live token comes, goes or is revoked.

        Counted rather than dated: writers' clocks may differ.
        """
        column = TOKENS.c
        counts = (func.count(), func.count(column.revoked_at))
        marker = select(*counts, func.max(column.revoked_at), func.max(column.issued_at))
        async with self._reading() as connection:
            return tuple((await connection.execute(marker.where(TOKENS.c.expires_at > now))).one())

    async def live(self, now: int, jti: str | None = None) -> dict[str, Claims]:
        """jti -> what was granted, of what is neither expired nor revoked; only that one if `jti` is given."""
        column = TOKENS.c
        wanted = and_(column.expires_at > now, column.revoked_at.is_(None), column.kind.in_(Kind))
        if jti is not None:
            wanted = and_(wanted, column.jti == jti)
        granted = (column.jti, column.kind, column.project, column.service, column.scope)
        query = select(*granted, column.issued_at, column.expires_at).where(wanted)
        async with self._reading() as connection:
            rows = await connection.execute(query)
            return {row.jti: Claims(row.jti, Kind(row.kind), *row[2:]) for row in rows}

    async def add_login_code(self, code_hash: str, scope: str, now: int, seconds: int) -> None:
        row = {"code_hash": code_hash, "scope": scope, "created_at": now, "expires_at": now + seconds}
        async with self._writing() as connection:
            await connection.execute(LOGIN_CODES.delete().where(LOGIN_CODES.c.expires_at < now - 86400))
            await connection.execute(insert(LOGIN_CODES).values(row))

    async def redeem_login_code(self, code_hash: str, now: int) -> str | None:
        """The code's scope, to exactly one caller and only before it expires; else None."""
        codes = LOGIN_CODES.c
        usable = and_(codes.code_hash == code_hash, codes.used_at.is_(None), codes.expires_at > now)
        query = update(LOGIN_CODES).where(usable).values(used_at=now).returning(codes.scope)
        async with self._writing() as connection:
            scope: str | None = (await connection.execute(query)).scalar_one_or_none()
            return scope

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        async with self._translated():
            await self._follow_file()
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        async with self._translated():
            await self._follow_file()
            async with self._writer.begin() as connection:
                yield connection

    async def _follow_file(self) -> None:
        """An open connection goes on reading a file that was moved away or replaced: it would never see a
        revocation.
        """
        if self._database.path is None:
            return
        try:
            found = os.stat(self._database.path)
        except OSError as error:
            raise StoreUnavailable(f"{self._database.path}: {error.strerror}") from None
        inode = (found.st_dev, found.st_ino)
        if self._inode not in (None, inode):
            await self._engine.dispose()
        self._inode = inode

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        """Driver errors -> ours.

        asyncpg's own errors come from connecting, which SQLAlchemy does not wrap.
        """
        try:
            async with asyncio.timeout(OPERATION_SECONDS):
                yield
        except TimeoutError:
            raise StoreUnavailable(f"{self._database.name}: no answer from the token database") from None
        except (SQLAlchemyError, OSError) as error:
            raise self._explained(error) from None
        except ValueError as error:
            # An invalid timestamp: written into the table by hand.
            raise GatewayError(
                f"{self._database.name}: unreadable row in the token database: {error}"
            ) from None
        except Exception as error:
            # SQLAlchemy 2.0 hands asyncpg's own through when a connection fails. Known by their module: with SQLite, importing
            # asyncpg for this would cost every command its time.
            if not type(error).__module__.startswith("asyncpg."):
                raise
            raise self._explained(error) from None

    def _explained(self, error: Exception) -> GatewayError:
        cause = getattr(error, "orig", None) or error
        reason = (str(cause).splitlines() or [type(cause).__name__])[0].partition(">: ")
        message = f"{self._database.name}: token database: {reason[2] or reason[0]}"
        state = str(getattr(cause, "sqlstate", None) or "")
        passing = isinstance(error, OSError) or "locked" in message or state.startswith(_PASSING)
        return StoreUnavailable(message) if passing else GatewayError(message)
