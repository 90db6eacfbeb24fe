"""What every task begins with: the environment, opened, and where messages and data go."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from prefect_platform.cli import hints
from prefect_platform.cli.hints import addressed

if TYPE_CHECKING:
    from prefect_platform.environment.opened import Platform


ROOT = Path(__file__).resolve().parents[1]


def say(line: str) -> None:
    """Talk goes to stderr; stdout is for data."""
    print(addressed(line), file=sys.stderr, flush=True)


def show(data: Any) -> None:
    print(jsonlib.dumps(data, indent=2, default=str))


def platform(c: Context, env: str, instead: dict[str, Any] | None = None) -> Platform:
    """The environment that a task works on; `instead` are settings that count more than the declared ones."""
    from prefect_platform.environment import opened as environment

    hints.about(env)
    return environment.open_platform(ROOT, c.config.get("platform") or {}, env, os.environ, say, instead)


def services(p: Platform, name: str, service: str) -> list[str]:
    from prefect_platform.errors import ConfigError

    found = [(each.stack, each.service) for each in p.target.processes()] or p.target.known()
    if not found:
        raise ConfigError(f"environment {p.settings.env!r}: nothing is set up here", f"./invoke {name}.setup")
    mine = [each for stack, each in found if stack == name]
    if not service:
        return [f"{name}-{each}" for each in mine]
    if service in mine:
        return [f"{name}-{service}"]
    # By its full name, or the service of another stack.
    others = [f"{stack}-{each}" for stack, each in found if service in (each, f"{stack}-{each}")]
    if not others:
        raise ConfigError(f"--service {service}: no such service; there are: {', '.join(mine) or 'none'}")
    return others[:1]
