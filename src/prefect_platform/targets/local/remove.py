"""Takes an environment off this machine."""

from __future__ import annotations

from pathlib import Path

from prefect_platform.files import delete_folder

_RENDERED = ("run", "stacks")
_DATA = ("data", "logs", "secrets")


def folders(data: bool) -> tuple[str, ...]:
    """What goes, below the state folder."""
    return (*_RENDERED, *(_DATA if data else ()))


def told(state: Path, data: bool) -> str:
    """What goes and what stays, for confirmation."""
    if data:
        return f"all stacks in {state}: processes, rendered files, databases, logs and secrets; backups stay"
    return f"the processes and rendered files of all stacks in {state}; databases, logs, secrets and backups stay"


def remove(state: Path, data: bool) -> None:
    """Delete what remains after everything was stopped. Raises ApplyError, naming what stays."""
    for folder in folders(data):
        delete_folder(state / folder)
    (state / "services.json").unlink(missing_ok=True)
