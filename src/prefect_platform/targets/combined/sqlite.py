"""A stack's SQLite database on a single machine: checked, copied and replaced by the stack's own program (`stack.SqliteSpec`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from prefect_platform.config.stack import SqliteSpec, Stack
from prefect_platform.errors import ConfigError, PlatformError, PreflightError
from prefect_platform.planning.where import Where

REFUSED = 3
"""The program's exit code for a database that it would not start on."""
_HINT = "give a file that prefect.backup wrote; nothing was changed"


class Runs(Protocol):
    """What of a target is used here."""

    def where(self, stack: str, scope: str = "environment") -> Where: ...
    def run_in(self, stack: str, argv: Sequence[str]) -> str: ...
    def stop(self, services: Sequence[str]) -> None: ...
    def restart(self, services: Sequence[str]) -> None: ...


def spec(stack: Stack) -> SqliteSpec:
    """Raises ConfigError for a stack without such a database."""
    if stack.sqlite is None:
        raise ConfigError(f"{stack.name}: has no SQLite database", f"see stacks/{stack.name}/README.md")
    return stack.sqlite


def database(where: Where, stack: Stack) -> Path:
    return Path(where.data) / spec(stack).file


def server(stack: Stack) -> str:
    """The full name of the service that writes it."""
    return f"{stack.name}-{spec(stack).service}"


def check(target: Runs, stack: Stack, file: str) -> None:
    """Raises PreflightError for a file that cannot become the database: damaged, not Prefect's, of a newer Prefect."""
    try:
        said = _program(target, stack, "check-database", file, "--full")
    except PlatformError as error:
        raise PreflightError(error.reason, _HINT) from None
    if not said.strip().endswith(": ok"):
        raise PreflightError(said.strip(), _HINT)


def copy(target: Runs, stack: Stack, file: str) -> None:
    """A consistent copy while all runs."""
    _program(target, stack, "backup", file)


def replace(target: Runs, stack: Stack, file: str, *, running: bool = True) -> str:
    """Put a copy in the database's place; returns where that is kept. The service that writes it is stopped meanwhile."""
    target.stop([server(stack)])
    try:
        return _program(target, stack, "restore", file).strip()
    finally:
        target.restart([server(stack)] if running else ())


def _program(target: Runs, stack: Stack, *words: str) -> str:
    return target.run_in(stack.name, [f"{target.where(stack.name).bundle}/{spec(stack).program}", *words])
