"""Restarts services and returns when they do their work again."""

from __future__ import annotations

from collections.abc import Sequence

from prefect_platform.checks import restarted
from prefect_platform.environment.opened import Platform
from prefect_platform.errors import CheckFailed

READY_SECONDS = 180


def restart(platform: Platform, services: Sequence[str], seconds: float = READY_SECONDS) -> None:
    """Workers finish their runs first. Raises CheckFailed with what is not ready `seconds` after the restart."""
    platform.target.restart(services)
    red = restarted.wait(platform, services, seconds)
    if red:
        what = "; ".join(f"{check.name}: {check.detail}" for check in red)
        raise CheckFailed(f"restarted, but not ready: {what}", red[0].hint)
    platform.say(f"ready: {', '.join(services)}")
