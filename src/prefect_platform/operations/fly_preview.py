"""The Fly machine of an environment, run here: for who wants to see it before it costs anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from prefect_platform.environment.opened import Platform
from prefect_platform.errors import ConfigError
from prefect_platform.targets.fly import preview, render
from prefect_platform.targets.fly.preview import Target

NOTES = (
    "the preview has its own keys, tokens and volume; the app on Fly is not contacted",
    "different from Fly: the address, no auto_stop, SQLite instead of database_url, no replica",
)


def here(platform: Platform, port: int, reopen: Callable[[dict[str, Any]], Platform]) -> Platform:
    """The environment, whose machine runs in the engine of this computer. Raises ConfigError for another target than fly, PreflightError."""
    if platform.settings.target != "fly":
        raise ConfigError(
            f"environment {platform.settings.env!r} has target {platform.settings.target}, not fly",
            "--env NAME of one with target: fly",
        )
    opened = reopen(preview.settings_instead(port, platform.settings.values))
    return replace(opened, target=Target(opened.settings, opened.say, port))


def end(platform: Platform) -> None:
    """Nothing is left of it."""
    _target(platform).end()


def memory(platform: Platform) -> tuple[int, int]:
    """Bytes in use (0 if the engine does not count), and the limit."""
    limit = render.megabytes(platform.settings.values["fly"]["memory"]) << 20
    return _target(platform).engine.memory(), limit


def _target(platform: Platform) -> Target:
    assert isinstance(platform.target, Target)
    return platform.target
