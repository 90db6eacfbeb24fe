"""Uptime monitoring by a service elsewhere."""

from __future__ import annotations

import os

from invoke.context import Context

from ._context import platform, say
from ._task import task


@task(
    help={
        "provider": "betterstack",
    }
)
def create(c: Context, env: str, provider: str = "betterstack") -> None:
    """Create an uptime monitor.

    It checks every three minutes.

    Example: BETTERSTACK_API_TOKEN=… ./invoke monitor.create --env fly

    Running it again changes nothing.
    """
    from prefect_platform.errors import ConfigError, PreflightError
    from prefect_platform.operations import monitor
    from prefect_platform.secretstore.store import Secret

    if provider != "betterstack":
        raise ConfigError(f"--provider {provider}: only betterstack is supported")
    token = os.environ.get("BETTERSTACK_API_TOKEN", "")
    if not token:
        raise PreflightError(
            "no token for Better Stack",
            "BETTERSTACK_API_TOKEN=… ./invoke monitor.create (Better Stack → API tokens → Uptime)",
        )
    say(monitor.ensure(platform(c, env), Secret(token), os.environ.get("BETTERSTACK_API_URL", monitor.API)))
