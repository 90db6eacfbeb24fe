"""A database URL of any flavour -> an async SQLAlchemy engine that is safe for what we do with it."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from prefect_platform.gateway.errors import GatewayError, UsageError

if TYPE_CHECKING:
    from sqlalchemy import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

VARIABLE = "GATEWAY_DATABASE_URL"
CONNECT_SECONDS = 5.0
BUSY_MILLISECONDS = 5000
# Words of other clients (Prisma, libpq poolers) that hosters put into the URL they show: without meaning
# here.
_IGNORED = {"pgbouncer", "connection_limit", "pool_timeout", "channel_binding", "supa", "gssencmode"}


@dataclass(frozen=True)
class Database:
    url: URL = field(repr=False)
    path: Path | None = None
    connect_args: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """For messages: the file, or host and database; never a credential."""
        return str(self.path) if self.path else f"{self.url.host or 'local'}/{self.url.database or ''}"


def parse(text: str) -> Database:
    """`sqlite:///path`, `postgres://…`, `postgresql://…`, each with or without `+driver`.

    Raises UsageError, never quoting it.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UsageError(f"{VARIABLE}: not a database URL") from None
    family = url.drivername.partition("+")[0]
    if family == "sqlite":
        return _sqlite(url)
    if family in ("postgres", "postgresql"):
        return _postgres(url)
    raise UsageError(f"{VARIABLE}: must begin with sqlite:// or postgresql://")


def _sqlite(url: URL) -> Database:
    if not url.database or url.database.startswith(("file:", ":")):
        raise UsageError(f"{VARIABLE}: SQLite needs a file, as in sqlite:////var/lib/gateway.db")
    path = Path(url.database).absolute()
    # mode=rw: a connection must never create the file. A lost database would come back empty and unnoticed.
    uri = f"file:{quote(str(path))}"
    target = url.set(drivername="sqlite+aiosqlite", database=uri, query={"mode": "rw", "uri": "true"})
    return Database(target, path, {"timeout": BUSY_MILLISECONDS / 1000})


def _postgres(url: URL) -> Database:
    query: dict[str, str] = {
        key: value if isinstance(value, str) else value[-1] for key, value in url.query.items()
    }
    args: dict[str, Any] = {
        # Poolers (pgbouncer, Supavisor) hand every transaction another server connection: nothing prepared
        # may be expected to last, and unnamed statements leave nothing behind.
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": str,
        "timeout": CONNECT_SECONDS,
        "command_timeout": CONNECT_SECONDS,
    }
    tls = _tls(query.pop("sslmode", query.pop("ssl", "")), query.pop("sslrootcert", ""))
    if tls is not None:
        args["ssl"] = tls
    if seconds := query.pop("connect_timeout", ""):
        args["timeout"] = float(seconds) if seconds.isdigit() and int(seconds) else CONNECT_SECONDS
    server = {key: query.pop(key) for key in ("application_name", "options") if key in query}
    args["server_settings"] = {"application_name": "prefect-platform-gateway", **server}
    kept: dict[str, str | tuple[str, ...]] = {key: query[key] for key in ("host", "port") if key in query}
    if unknown := sorted(query.keys() - kept.keys() - _IGNORED):
        raise UsageError(f"{VARIABLE}: parameter {unknown[0]!r} is not understood")
    return Database(url.set(drivername="postgresql+asyncpg", query=kept), None, args)


def _tls(mode: str, root: str) -> ssl.SSLContext | str | None:
    """libpq's sslmode.

    Own contexts, because asyncpg looks for certificates in a home folder that a service may not have.
    """
    if mode not in ("", "disable", "allow", "prefer", "require", "verify-ca", "verify-full"):
        raise UsageError(f"{VARIABLE}: sslmode {mode!r} is not understood")
    if mode in ("", "disable", "allow", "prefer"):
        return mode or None
    try:
        context = ssl.create_default_context(cafile=root or None)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"{VARIABLE}: sslrootcert {root}: {error}") from None
    context.check_hostname = mode == "verify-full"
    if (
        mode == "require" and not root
    ):  # as libpq: encrypt, and check only when there is something to check against
        context.verify_mode = ssl.CERT_NONE
    return context


def make_file(database: Database) -> None:
    """The SQLite file with mode 0600 (SQLite gives -wal and -shm the same).

    Raises GatewayError naming the file.
    """
    if database.path is None:
        return
    try:
        os.close(os.open(database.path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise GatewayError(f"{database.path}: cannot open the token database: {error.strerror}") from None


def make_engine(database: Database) -> AsyncEngine:
    """Writers ask with `execution_options(write=True)`: SQLite then takes its lock at BEGIN instead of
    failing half-way.
    """
    from sqlalchemy import event
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(
        database.url,
        connect_args=database.connect_args,
        pool_size=2,
        max_overflow=2,
        pool_timeout=CONNECT_SECONDS,
        pool_pre_ping=database.path is None,
        hide_parameters=True,
    )
    if database.path is not None:
        event.listen(engine.sync_engine, "connect", _on_sqlite_connect)
        event.listen(engine.sync_engine, "begin", _on_sqlite_begin)
    return engine


def _on_sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions: _on_sqlite_begin does
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={BUSY_MILLISECONDS}", "journal_mode=WAL", "synchronous=FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_sqlite_begin(connection: Any) -> None:
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
