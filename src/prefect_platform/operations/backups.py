"""Backups of Prefect's database on the operator's machine, and their restore. They contain no gateway tokens and no secrets."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from prefect_platform.environment.opened import Platform
from prefect_platform.errors import ConfigError
from prefect_platform.files import make_private
from prefect_platform.targets.protocol import Backups, require


def make(platform: Platform, folder: str = "") -> Path:
    """A consistent copy, made while it runs; returns its file. Raises ConfigError for a missing folder."""
    place = Path(folder).expanduser().resolve() if folder else platform.settings.state / "backups"
    if folder and not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"--to {folder}: not a writable folder", f"mkdir -p {place}")
    if not folder:
        make_private(place)
    platform.say("backing up Prefect's database")
    label = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}"
    return require(platform.target, Backups).backup(platform.stacks[platform.main], place, label)


def bring_back(platform: Platform, file: str, yes: bool) -> str:
    """Put a copy in the database's place; returns where that is kept. Raises ConfigError without `yes`, PreflightError for a bad file."""
    path = Path(file).expanduser().resolve()
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigError(
            f"--file {file}: {error.strerror}", "give a file that ./invoke prefect.backup wrote"
        ) from None
    if not yes:
        raise ConfigError(
            f"this would replace the database with {path.name}; later runs exist only in the copy that is set aside",
            "add --yes to do it",
        )
    with platform.target.lock(f"{platform.main}.restore", 600):
        return require(platform.target, Backups).restore(platform.stacks[platform.main], path)
