"""What the targets with a SQLite database share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from prefect_platform.errors import PlatformError, PreflightError


class Runs(Protocol):
    def run_in(self, stack: str, argv: Sequence[str]) -> str: ...


def check_file(target: Runs, server: str, file: str) -> None:
    """Raises PreflightError for a file that cannot become the database: damaged, not Prefect's, of a newer Prefect."""
    try:
        said = target.run_in("prefect", [server, "check-database", file, "--full"])
    except PlatformError as error:
        raise PreflightError(
            error.reason, "give a file that prefect.backup wrote; nothing was changed"
        ) from None
    if not said.strip().endswith(": ok"):
        raise PreflightError(said.strip(), "give a file that prefect.backup wrote; nothing was changed")
