"""What every task begins with: its environment, and where messages and data go."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from prefect_platform.cli import hints, streams
from prefect_platform.cli.config import files_of
from prefect_platform.cli.hints import addressed

if TYPE_CHECKING:
    from prefect_platform.environment.opened import Platform


ROOT = Path(__file__).resolve().parents[1]


def say(line: str) -> None:
    """Messages go to stderr; stdout is for data."""
    print(addressed(line), file=sys.stderr, flush=True)


def require_reader(what: str) -> None:
    """For what is printed once. Raises PlatformError, before it is made, where nobody can receive it."""
    from prefect_platform.errors import PlatformError

    if why := streams.unread():
        raise PlatformError(
            f"standard output: {why}: nobody would receive the {what}; nothing was made",
            "run it again where its output is read",
        )


def show(data: Any) -> None:
    print(jsonlib.dumps(data, indent=2, default=str))


def platform(c: Context, env: str, instead: dict[str, Any] | None = None) -> Platform:
    """The environment that a task works on; `instead` overrides the settings."""
    from prefect_platform.environment import opened as environment

    hints.about(env)
    raw, files = c.config.get("platform"), files_of(c.config)
    return environment.open_platform(ROOT, {} if raw is None else raw, env, os.environ, say, instead, files)


def services(p: Platform, name: str, service: str) -> list[str]:
    """The processes of stack `name` (of all stacks with ""), or the one that `service` means. Raises ConfigError."""
    from prefect_platform.errors import ConfigError

    found = [(each.stack, each.service) for each in p.target.processes()] or p.target.known()
    if not found:
        raise ConfigError(
            f"environment {p.settings.env!r}: nothing is set up", f"./invoke {name or 'platform'}.setup"
        )
    if not name and not service:
        return [f"{stack}-{each}" for stack, each in found]
    mine = [each for stack, each in found if stack == name]
    if not service:
        return [f"{name}-{each}" for each in mine]
    if service in mine:
        return [f"{name}-{service}"]
    # By its full name, or the service of another stack.
    others = [f"{stack}-{each}" for stack, each in found if service in (each, f"{stack}-{each}")]
    if not others:
        raise ConfigError(f"--service {service}: no such service; services: {', '.join(mine) or 'none'}")
    return others[:1]
