"""Somebody elsewhere who asks whether Prefect is there."""

from __future__ import annotations

import os

from invoke.context import Context
from invoke.tasks import task

from ._context import platform, say


@task(help={"provider": "betterstack", "env": "environment of invoke.yaml"})
def create(c: Context, env: str, provider: str = "betterstack") -> None:
    """An uptime monitor that asks every three minutes; again it changes nothing. Example: BETTERSTACK_API_TOKEN=… ./invoke monitor.create --env fly"""
    from prefect_platform.errors import ConfigError, PreflightError
    from prefect_platform.operations import monitor
    from prefect_platform.secretstore.store import Secret

    if provider != "betterstack":
        raise ConfigError(f"--provider {provider}: there is: betterstack")
    token = os.environ.get("BETTERSTACK_API_TOKEN", "")
    if not token:
        raise PreflightError(
            "no token for Better Stack",
            "BETTERSTACK_API_TOKEN=… ./invoke monitor.create (Better Stack → API tokens → Uptime)",
        )
    say(monitor.ensure(platform(c, env), Secret(token), os.environ.get("BETTERSTACK_API_URL", monitor.API)))
