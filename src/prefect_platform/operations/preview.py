"""An environment tried on this machine before it runs, and costs, at its provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from prefect_platform.environment.opened import Platform
from prefect_platform.targets.protocol import Preview, Previews, require


def here(
    platform: Platform, port: int, reopen: Callable[[dict[str, Any]], Platform]
) -> tuple[Platform, Preview]:
    """The environment with its preview as the target. `reopen` opens it with other settings.

    Raises ConfigError for a target without previews, PreflightError without a Docker engine.
    """
    opened = reopen(require(platform.target, Previews).preview_settings(port))
    preview = require(opened.target, Previews).preview(port)
    return replace(opened, target=preview), preview
