"""Where the SQLite database is, whether it can be used, and how a new one starts from a migrated template.

The check never changes the file and the start never deletes one: a damaged database is an operator's
decision. The check needs only the standard library, so it works while Prefect does not.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import sqlite3
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

SQLITE_MAGIC = b"SQLite format 3\x00"
QUICK_CHECK_BYTES = 64 * 1024 * 1024
"""Up to this size `PRAGMA quick_check` costs well under a second at every start."""
_REVISION = re.compile(r"""^revision(?:\s*:\s*str)?\s*=\s*["']([0-9a-f]+)["']""", re.MULTILINE)


@dataclass(frozen=True)
class DatabaseState:
    """`exists` is False when a new file may be created; `problem` says what is wrong and what to do next."""

    path: Path
    exists: bool
    problem: str | None = None

    def line(self) -> str:
        """One line for a person."""
        if self.problem:
            return f"{self.path}: {self.problem}"
        return f"{self.path}: {'ok' if self.exists else 'does not exist yet'}"


def configured_path() -> Path | None:
    """Return the file of the database that Prefect's settings name, or None (Postgres, in-memory)."""
    from prefect.settings import get_current_settings
    from sqlalchemy.engine import make_url

    secret = get_current_settings().server.database.connection_url
    url = make_url(secret.get_secret_value() if secret else "sqlite://")
    if url.get_backend_name() != "sqlite" or not url.database or ":memory:" in str(url):
        return None
    return None if "mode=memory" in str(url) else Path(url.database.removeprefix("file:")).absolute()


def forget_block_types() -> None:
    """The note that they are registered belongs to a database that is gone."""
    from prefect.settings import get_current_settings

    memo = get_current_settings().server.memo_store_path
    if memo is not None:
        memo.unlink(missing_ok=True)


def check(path: Path, *, full: bool = False) -> DatabaseState:
    """Look at a SQLite file without changing it.

    `full` reads every page whatever the size (default: only up to 64 MiB, larger files get header and schema
    checks).
    """
    wal = path.with_name(path.name + "-wal")
    try:
        if not path.exists():
            if wal.exists() and wal.stat().st_size > 0:
                # SQLite would replay this log into whatever file appears under the name.
                problem = f"is missing but {wal.name} is there; restore the file or move the log aside"
                return DatabaseState(path, False, problem)
            return DatabaseState(path, False)
        size = path.stat().st_size
        with path.open("rb") as file:
            magic = file.read(len(SQLITE_MAGIC))
    except OSError as error:
        return DatabaseState(path, True, f"cannot be read ({error.strerror}); check owner and mode")
    if size == 0:
        return DatabaseState(path, True, f"is empty (0 bytes); {_NEXT}")
    if magic != SQLITE_MAGIC:
        return DatabaseState(path, True, f"is not a SQLite database (wrong header); {_NEXT}")
    return DatabaseState(path, True, _content_problem(path, full or size <= QUICK_CHECK_BYTES))


_NEXT = "restore a backup over it, or move it aside (with its -wal and -shm) to start with a new one"


def _content_problem(path: Path, read_all: bool) -> str | None:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=5)
        try:
            return _schema_problem(connection, read_all)
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return "is locked by another process; stop that process first"
        return f"cannot be opened ({error}); check owner and mode of file and folder, then its disk"
    except sqlite3.DatabaseError as error:
        return f"is damaged ({error}); {_NEXT}"


def _schema_problem(connection: sqlite3.Connection, read_all: bool) -> str | None:
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if read_all:
        first = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if first != "ok":
            return f"is damaged ({' '.join(str(first).split())}); {_NEXT}"
    if not tables:
        return None  # A first start was interrupted before its first migration: nothing in it can be lost.
    if "alembic_version" not in tables:
        return f"is a SQLite database, but not Prefect's; {_NEXT}"
    revisions = {row[0] for row in connection.execute("SELECT version_num FROM alembic_version")}
    unknown = sorted(revisions - known_revisions())
    if unknown:
        version = importlib.metadata.version("prefect")
        return (
            f"was written by a newer Prefect than the installed {version} "
            f"(unknown schema revision {unknown[0]}); "
            "install that Prefect version again, or restore a backup made before the upgrade"
        )
    return None


def known_revisions(dialect: str = "sqlite") -> frozenset[str]:
    """Return the schema revisions of the installed Prefect, read from its migration files; `dialect`: sqlite or postgresql."""
    spec = importlib.util.find_spec("prefect")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("Prefect is not installed in this Python")
    folder = Path(spec.submodule_search_locations[0]) / f"server/database/_migrations/versions/{dialect}"
    found = (_REVISION.search(file.read_text(encoding="utf-8")) for file in folder.glob("*.py"))
    return frozenset(match.group(1) for match in found if match)


def head_revision(dialect: str = "sqlite") -> str:
    """Return the schema revision that the installed Prefect migrates to: the one that no other comes after."""
    from alembic.script import ScriptDirectory

    spec = importlib.util.find_spec("prefect")
    folder = Path(str(spec and spec.origin)).parent / "server/database/_migrations"
    script = ScriptDirectory(str(folder), version_locations=[str(folder / "versions" / dialect)])
    return str(script.get_current_head())


def block_fingerprint() -> int:
    """Return 31 bits naming the distributions whose block types a template holds."""
    points = importlib.metadata.entry_points(group="prefect.collections")
    names = {f"{p.dist.name}=={p.dist.version}" for p in points if p.dist is not None}
    names.add(f"prefect=={importlib.metadata.version('prefect')}")
    return zlib.crc32("\n".join(sorted(names)).encode()) & 0x7FFFFFFF


def install_template(template: Path, path: Path) -> bool:
    """Put a copy of `template` (mode 0600) in place of the missing `path`; never over a file that is there.

    Returns whether the copy holds the block types of exactly the installed distributions. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as target, template.open("rb") as source:
            shutil.copyfileobj(source, target, 1024 * 1024)
            target.flush()
            os.fsync(target.fileno())
        partial.chmod(0o600)
        os.link(partial, path)  # unlike rename, fails when the file has appeared meanwhile
    finally:
        partial.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    try:
        return bool(connection.execute("PRAGMA user_version").fetchone()[0] == block_fingerprint())
    finally:
        connection.close()


async def fill_template(path: Path) -> None:
    """Migrate the database that the settings name, register block types, and write it to `path` as one file.

    Raises RuntimeError when it holds something that belongs to one installation only.
    """
    from prefect.plugins import load_prefect_collections
    from prefect.server.database import provide_database_interface
    from prefect.server.models.block_registration import run_block_auto_registration

    interface = provide_database_interface()
    await interface.create_db()
    load_prefect_collections()
    async with await interface.session() as session:
        await run_block_auto_registration(session=session)
    await (await interface.engine()).dispose()
    source = configured_path()
    if source is None:
        raise RuntimeError("a template needs a SQLite file")
    _export(source, path)


def write_copy(connection: sqlite3.Connection, partial: Path, path: Path) -> None:
    """What the connection sees, as one file (mode 0600), which takes its name when it is complete."""
    partial.unlink(missing_ok=True)
    connection.execute("VACUUM INTO ?", (str(partial),))
    partial.chmod(0o600)
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    os.replace(partial, path)


def _export(source: Path, path: Path) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    connection = sqlite3.connect(source)
    try:
        # `configuration` holds the telemetry identity and the generated encryption key of an installation.
        for table in ("configuration", "csrf_token", "block_document", "flow_run"):
            if connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]:
                raise RuntimeError(f"table {table} is not empty")
        connection.execute(f"PRAGMA user_version = {block_fingerprint()}")
        write_copy(connection, partial, path)
    finally:
        connection.close()
        partial.unlink(missing_ok=True)
