"""`server.py backup` and `restore`: copies of the SQLite database that are whole, and one of them in its place."""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import sys
import time
from pathlib import Path

from server_database import check, configured_path, forget_block_types, write_copy


def run(command: str, argv: list[str]) -> int:
    """Back up to a file, or restore from one; print where the result is, or what was there before."""
    parser = argparse.ArgumentParser(prog=f"server.py {command}")
    parser.add_argument("file", type=Path)
    file: Path = parser.parse_args(argv).file.absolute()
    path = configured_path()
    if path is None:
        return _fail("the database is not a SQLite file: back it up with its own tools (pg_dump)")
    given = path if command == "backup" else file
    state = check(given, full=True)
    if state.problem or not state.exists:
        return _fail(f"database {state.line()}", 3)
    try:
        if command == "backup":
            snapshot(path, file)
            print(file)
        else:
            forget_block_types()
            print(put_in_place(file, path, time.strftime("%Y%m%d-%H%M%S")) or "")
    except (OSError, sqlite3.Error) as error:
        return _fail(f"{command} of {path}: {error}")
    return 0


def _fail(text: str, code: int = 1) -> int:
    print(f"server.py: {text}", file=sys.stderr, flush=True)
    return code


def snapshot(source: Path, path: Path) -> None:
    """Write a consistent copy of a database that may be in use to `path`, as one file (mode 0600). Raises OSError, sqlite3.Error."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Read-only: a file that is not there must not appear, and what is there must not change.
    connection = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)
    try:
        write_copy(connection, partial, path)
    finally:
        connection.close()
        partial.unlink(missing_ok=True)


def put_in_place(file: Path, path: Path, label: str) -> Path | None:
    """Make a copy of `file` the database; nobody may have it open. What was there keeps its content under another name: returned.

    At no moment is there no database, which a start would take for a new installation. Raises OSError.
    """
    partial = path.with_name(f".{path.name}.restored")
    shutil.copyfile(file, partial)
    partial.chmod(0o600)
    with partial.open("rb") as copied:
        os.fsync(copied.fileno())
    aside = path.with_name(f"set-aside-{label}-{path.name}")
    # The log first: SQLite would replay it into whatever file has the name.
    for kind in ("-wal", "-shm"):
        log = path.with_name(path.name + kind)
        if log.exists():
            log.rename(aside.with_name(aside.name + kind))
    kept = path.exists()
    if kept:
        os.link(path, aside)
    os.replace(partial, path)
    return aside if kept else None
