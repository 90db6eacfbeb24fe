"""The SQLite database, copied to a bucket as it changes: the server runs as Litestream's child, and a volume that is new gets what the bucket has."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NoReturn

CONFIG, ENDPOINT, UNDER = "PLATFORM_REPLICA_CONFIG", "PLATFORM_REPLICA_ENDPOINT", "PLATFORM_REPLICATED"
_SECONDS = 240
"""A restore must be done before Fly takes the machine for one that does not start."""


def wanted() -> bool:
    """Whether this process should become Litestream: it is configured, and we are not its child yet."""
    return bool(os.environ.get(CONFIG)) and not os.environ.get(UNDER)


def end_with_parent() -> None:
    """A server whose Litestream was killed would go on uncopied, and hold the port that the next one wants."""
    if not os.environ.get(UNDER):
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def restore() -> str | None:
    """Bring the database from the bucket if there is none. Returns what is wrong, or None.

    A bucket that does not answer is not an empty one: starting with a new database would put that in the place of the copy.
    """
    database = Path(os.environ["PREFECT_SERVER_DATABASE_NAME"])
    if database.exists():
        return None
    program = shutil.which("litestream")
    if program is None:
        return "litestream is not installed, and platform.prefect.replica wants it"
    if wrong := _unreachable(os.environ[ENDPOINT]):
        return f"the replica's storage {os.environ[ENDPOINT]} does not answer ({wrong}), and without it an empty database would take its place"
    database.parent.mkdir(parents=True, exist_ok=True)
    words = ["restore", "-config", os.environ[CONFIG], "-if-db-not-exists", "-if-replica-exists"]
    try:
        done = subprocess.run(
            [program, *words, "-integrity-check", "quick", str(database)],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"the replica has not come in {_SECONDS} s; a larger one: restore it by hand, docs/fly.md"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return (
            f"the replica cannot be read, and without it an empty database would take its place: {last[:300]}"
        )
    if database.exists():
        print(f"server.py: database {database}: restored from the replica", file=sys.stderr, flush=True)
    return None


def _unreachable(url: str) -> str | None:
    """Litestream would try for minutes. Whatever the storage answers to somebody without a key, it is there."""
    try:
        urllib.request.urlopen(url, timeout=10).close()
    except urllib.error.HTTPError:
        return None
    except OSError as error:
        return str(getattr(error, "reason", error))
    return None


def become(words: list[str]) -> NoReturn:
    """Go on as Litestream, which starts this very command as its child, stops it when told to stop, and copies the last changes after it."""
    command = shlex.join([sys.executable, *words])
    litestream = ["litestream", "replicate", "-config", os.environ[CONFIG], "-exec", command]
    os.execvpe(litestream[0], litestream, {**os.environ, UNDER: "1"})
