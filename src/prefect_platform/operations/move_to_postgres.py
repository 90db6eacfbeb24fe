"""From SQLite to an external PostgreSQL: requests it from the server, runs setup, and returns to SQLite when it fails."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prefect_platform.config import database_url
from prefect_platform.environment.opened import Platform
from prefect_platform.errors import ApplyError, ConfigError, PlatformError

from . import deploy

REQUEST, RESULT = "move-to-postgres.json", "moved-to-postgres.json"
"""Names that stacks/prefect/server_move.py knows too."""
_READY_SECONDS = 3600
"""While it copies, the server does not answer."""
_WRITE = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
_READ = (
    "import pathlib, sys; file = pathlib.Path(sys.argv[1]); print(file.read_text() if file.exists() else '')"
)
_GONE = "import pathlib, sys; pathlib.Path(sys.argv[1]).unlink(missing_ok=True)"


@dataclass(frozen=True)
class Moved:
    """`rows` of each table, as many in PostgreSQL as in SQLite; `report` is that of the setup around it."""

    place: str
    seconds: float
    rows: dict[str, int]
    report: deploy.Report


def to_postgres(platform: Platform, on_sqlite: Callable[[], Platform], wait: float) -> Moved:
    """Move all of Prefect's SQLite data. Interrupted anywhere, run it again to resume.

    `on_sqlite` opens the same environment without the URL: what is set up again when nothing could be moved. Raises ConfigError,
    PreflightError before anything is touched; ApplyError when it failed, and then Prefect runs on SQLite as before.
    """
    url = platform.settings.values[platform.main]["database_url"]
    if not url:
        raise ConfigError(
            f"{database_url.KEY} is not set",
            f"set it, {database_url.EXAMPLE}; targets local and fly",
        )
    platform.target.store.store_given(platform.stacks[platform.main], os.environ)
    folder = platform.target.where(platform.main).data
    _request(platform, folder)
    try:
        report = deploy.setup(platform, platform.main, wait, _READY_SECONDS)
    except PlatformError as error:
        if _read(platform, f"{folder}/{REQUEST}"):
            raise _back(platform, on_sqlite, folder, wait, error) from None
        raise
    result = json.loads(_read(platform, f"{folder}/{RESULT}"))
    return Moved(database_url.parse(url).place, result["seconds"], result["rows"], report)


def _request(platform: Platform, folder: str) -> None:
    """Raises ConfigError when there is nothing to move."""
    said = platform.target.run_in(
        platform.main, [f"{platform.target.where(platform.main).bundle}/server.py", "check-database"]
    ).strip()
    if said.endswith(": ok"):
        spec = platform.stacks[platform.main].sqlite
        source = f"{folder}/{spec.file if spec else ''}"
        wanted = json.dumps({"from": source, "asked": time.strftime("%Y-%m-%dT%H:%M:%S%z")})
        platform.target.run_in(platform.main, ["-c", _GONE, f"{folder}/{RESULT}"])
        platform.target.run_in(platform.main, ["-c", _WRITE, f"{folder}/{REQUEST}", wanted])
        return
    if said.endswith("not exist yet"):
        raise ConfigError(f"{said}: nothing to move", "./invoke prefect.setup")
    if not (_read(platform, f"{folder}/{REQUEST}") or _read(platform, f"{folder}/{RESULT}")):
        raise ConfigError(
            "Prefect already runs on PostgreSQL, and the target database must be empty",
            f"to move SQLite's data: remove {database_url.KEY}, ./invoke prefect.setup, empty the PostgreSQL database, put it back, and run this again",
        )


def _back(
    platform: Platform, on_sqlite: Callable[[], Platform], folder: str, wait: float, cause: PlatformError
) -> PlatformError:
    platform.say("not moved: returning to SQLite")
    platform.target.run_in(platform.main, ["-c", _GONE, f"{folder}/{REQUEST}"])
    said = _last_words(platform) or cause.reason
    report = deploy.setup(on_sqlite(), platform.main, wait)
    state = "as before" if report.healthy else "but is not healthy"
    return ApplyError(
        f"nothing was moved: {said}; Prefect runs on SQLite, {state}",
        "fix the cause, then ./invoke prefect.migrate-to-postgres; or remove prefect.database_url to stay on SQLite",
    )


def _last_words(platform: Platform) -> str:
    """Why the server did not start, in its own words."""
    lines: list[str] = []
    for line in platform.target.tail(f"{platform.main}-server", 200):
        name, found, text = line.partition("server.py: database ")
        if found and not name:
            lines.append(text)
    return lines[-1] if lines else ""


def _read(platform: Platform, file: str) -> Any:
    return platform.target.run_in(platform.main, ["-c", _READ, file]).strip()
