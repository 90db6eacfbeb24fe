"""All that the SQLite database holds, into an empty PostgreSQL: done by the server before it serves, when `prefect.migrate-to-postgres` has asked for it.

The request is a file beside the database. Everything is copied and counted in one transaction: PostgreSQL has all of it or
nothing, and an interrupted move begins anew at the next start. The SQLite file is only read.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import sort_tables_and_constraints

REQUEST, RESULT = "move-to-postgres.json", "moved-to-postgres.json"
_ROWS = 2000
"""At a time: what is in memory of a table."""
_A_PERSON_S = ("flow", "flow_run", "deployment", "block_document", "variable", "artifact", "automation")
"""An empty one has none of these. Everything else may be what Prefect itself puts into a new database."""
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")

Rows = list[dict[str, Any]]


def requested() -> Path | None:
    """The file of an operator's request that is not fulfilled yet."""
    home = os.environ.get("PREFECT_HOME")
    file = Path(home).parent / REQUEST if home else None
    return file if file and file.exists() else None


def fulfil(request: Path) -> str | None:
    """Move everything, write the counts beside the request and remove it. Returns what is wrong, or None."""
    source = Path(json.loads(request.read_text())["from"])
    began = time.monotonic()
    try:
        counts = asyncio.run(_move(source))
    except _CannotError as error:
        return str(error)
    except (sa.exc.SQLAlchemyError, OSError) as error:
        return (
            f"moving {source} to PostgreSQL failed, nothing was moved: {' '.join(str(error).split())[:400]}"
        )
    result = {"seconds": round(time.monotonic() - began, 1), "rows": counts}
    partial = request.with_name(f".{RESULT}")
    partial.write_text(json.dumps(result))
    os.replace(partial, request.with_name(RESULT))
    request.unlink()
    _say(f"moved {sum(counts.values())} rows of {source} in {result['seconds']} s")
    return None


class _CannotError(Exception):
    """One sentence for the operator."""


async def _move(source: Path) -> dict[str, int]:
    from prefect.server.database import provide_database_interface
    from prefect.server.database.orm_models import Base

    interface = provide_database_interface()
    await interface.create_db()
    engine = await interface.engine()
    reading = sa.create_engine(f"sqlite:///file:{source}?mode=ro&uri=true")
    tables = {table.name: table for table in Base.metadata.tables.values()}
    try:
        with reading.connect() as old:
            _check_source(old, set(tables))
            async with engine.begin() as new:
                return await _copy(old, new, tables)
    finally:
        reading.dispose()
        await engine.dispose()


def _check_source(old: sa.Connection, known: set[str]) -> None:
    from server_database import head_revision

    found = set(old.scalars(sa.text("SELECT version_num FROM alembic_version")))
    if found != {head_revision()}:
        raise _CannotError(
            "the SQLite database has another schema than this Prefect: set it up on SQLite with this version first, then move it"
        )
    names = set(old.scalars(sa.text("SELECT name FROM sqlite_master WHERE type = 'table'")))
    strange = sorted(
        name
        for name in names - known - {"alembic_version"}
        if not name.startswith(("sqlite_", "_litestream"))
        and old.scalar(sa.select(sa.func.count()).select_from(sa.table(name)))
    )
    if strange:
        raise _CannotError(f"the SQLite database has tables that are not Prefect's: {', '.join(strange)}")


async def _copy(old: sa.Connection, new: Any, tables: dict[str, Any]) -> dict[str, int]:
    there = {name: old.scalar(_count(name)) or 0 for name in tables}
    already = {name: await new.scalar(_count(name)) or 0 for name in tables}
    if already == there:
        return there  # The one before this was cut off between the last commit and the note of it.
    for name in _A_PERSON_S:
        if already[name]:
            raise _CannotError(
                f"the PostgreSQL database is not empty ({already[name]} rows in {name}); give Prefect an empty one"
            )
    # Tables that point at each other in a circle come with the constraints that must wait, last and without a table.
    *ordered, (_, waiting) = sort_tables_and_constraints(tables.values())  # type: ignore[no-untyped-call]
    later = [column for each in waiting for column in each.columns]
    await _clear(new, [table for table, _ in ordered], later)
    for table, _ in ordered:
        await _fill(old, new, table, [column.name for column in later if column.table is table])
    for column in later:
        await _point(old, new, column)
    moved = {name: await new.scalar(_count(name)) or 0 for name in tables}
    if moved != there:
        wrong = next(name for name in tables if moved[name] != there[name])
        raise _CannotError(
            f"{wrong}: {there[wrong]} rows in SQLite, {moved[wrong]} arrived; nothing was moved"
        )
    return moved


async def _clear(new: Any, ordered: list[Any], later: list[Any]) -> None:
    """Take out what Prefect itself puts into a new database. Not TRUNCATE: that would want tables that are not ours as well."""
    for column in later:
        await new.execute(
            sa.update(sa.table(column.table.name, sa.column(column.name))).values({column.name: None})
        )
    for table in reversed(ordered):
        await new.execute(sa.delete(sa.table(table.name)))


def _count(name: str) -> sa.Select[tuple[int]]:
    return sa.select(sa.func.count()).select_from(sa.table(name))


async def _fill(old: sa.Connection, new: Any, table: sa.Table, left_out: list[str]) -> None:
    """Every row; columns of `left_out` point at rows that are not there yet and stay NULL for now."""
    columns = [column for column in table.columns if column.name not in left_out]
    # JSON goes through as it is written: read and written anew, NULL and null would become one.
    read = [sa.column(each.name, sa.Text() if _is_json(each) else each.type) for each in columns]
    values = {
        each.name: sa.cast(sa.bindparam(each.name, type_=sa.Text()), JSONB)
        if _is_json(each)
        else sa.bindparam(each.name, type_=each.type)
        for each in columns
    }
    done, told = 0, time.monotonic()
    for rows in _read(old, sa.select(*read).select_from(sa.table(table.name))):
        await new.execute(sa.insert(table).values(values), rows)
        done += len(rows)
        if time.monotonic() - told > 2:
            told = time.monotonic()
            _say(f"moving {table.name}: {done} rows")


async def _point(old: sa.Connection, new: Any, column: sa.Column[Any]) -> None:
    """Fill in a column that was left out."""
    # Not Prefect's own table: an update of that one sets `updated` to now.
    table = sa.table(
        column.table.name, sa.column("id", column.table.c.id.type), sa.column(column.name, column.type)
    )
    wanted = table.c[column.name]
    chosen = sa.select(table.c.id, wanted).where(wanted.is_not(None))
    update = sa.update(table).where(table.c.id == sa.bindparam("row"))
    update = update.values({column.name: sa.bindparam("to", type_=column.type)})
    for rows in _read(old, chosen):
        await new.execute(update, [{"row": each["id"], "to": each[column.name]} for each in rows])


def _read(old: sa.Connection, statement: sa.Select[Any]) -> Iterator[Rows]:
    found = old.execution_options(yield_per=_ROWS).execute(statement)
    for part in found.mappings().partitions():
        yield [{name: _without_nul(value) for name, value in row.items()} for row in part]


def _without_nul(value: Any) -> Any:
    """PostgreSQL has no character 0, in text and in JSON."""
    if not isinstance(value, str):
        return value
    if "\\u0000" in value:
        value = _NUL.sub(r"\1", value)
    return value.replace("\x00", "") if "\x00" in value else value


def _is_json(column: sa.Column[Any]) -> bool:
    from prefect.server.utilities.database import JSON, Pydantic

    return isinstance(column.type, (JSON, Pydantic, sa.JSON))


def _say(text: str) -> None:
    print(f"server.py: {text}", flush=True)
