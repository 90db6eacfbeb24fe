"""Whether the PostgreSQL that runs elsewhere can be Prefect's database: asked before Prefect starts on it, which would only show a traceback."""

from __future__ import annotations

import asyncio
import importlib.metadata
import ssl
from typing import Any

from server_database import known_revisions

_SECONDS = 20


def problem() -> str | None:
    """Return what is wrong with the configured database and what to do, or None."""
    from prefect.settings import get_current_settings

    wanted = get_current_settings().server.database
    place = f"{wanted.host}:{wanted.port}/{wanted.name}"
    try:
        said = asyncio.run(_ask(wanted))
    except TimeoutError:
        return (
            f"{place}: no answer within {_SECONDS} s; is the host right, does a firewall drop the connection?"
        )
    return f"{place}: {said}" if said else None


async def _ask(wanted: Any) -> str | None:
    import asyncpg

    password = wanted.password.get_secret_value() if wanted.password else None
    place = {"host": wanted.host, "port": wanted.port, "user": wanted.user, "database": wanted.name}
    try:
        connection = await asyncpg.connect(
            **place, password=password, timeout=_SECONDS, statement_cache_size=0
        )
    except asyncpg.InvalidCatalogNameError:
        return "there is no such database; create it, or correct platform.prefect.database_url"
    except ssl.SSLError as error:
        return f"TLS: {error}; platform.prefect.database_url says with ?sslmode= what is wanted"
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        # Poolers have error codes of their own for it, the words are the same.
        if "authentication failed" in str(error):
            return f"refuses the password of {wanted.user}; give the right one to setup: PREFECT_SERVER_DATABASE_PASSWORD"
        return f"cannot be reached: {error}; see platform.prefect.database_url"
    try:
        return await _schema_problem(connection)
    finally:
        await connection.close(timeout=5)


async def _schema_problem(connection: Any) -> str | None:
    if await connection.fetchval("SELECT to_regclass('alembic_version') IS NULL"):
        foreign = await connection.fetchval(
            "SELECT to_regclass('flow_run') IS NOT NULL OR to_regclass('deployment') IS NOT NULL"
        )
        return (
            "has tables with the names of Prefect's, but they are not Prefect's; give Prefect a database of its own"
            if foreign
            else None
        )
    found = {row["version_num"] for row in await connection.fetch("SELECT version_num FROM alembic_version")}
    unknown = sorted(found - known_revisions("postgresql"))
    if not unknown:
        return None
    version = importlib.metadata.version("prefect")
    return (
        f"its schema revision {unknown[0]} is unknown to Prefect {version}: a newer Prefect wrote it (install that one again), "
        "or alembic_version is another application's (give Prefect a database of its own)"
    )
