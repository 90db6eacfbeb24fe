"""A new value for a generated password."""

from __future__ import annotations

import time

from prefect_platform.checks.check import Check
from prefect_platform.checks.health import prove
from prefect_platform.environment.opened import Platform
from prefect_platform.errors import ConfigError
from prefect_platform.secretstore.store import generate

_RESTART_SECONDS = 12
"""From the rendered file to a process that is about to end: its entrypoint looks every five seconds."""


def rotate_secret(platform: Platform, name: str, secret: str) -> tuple[Check, ...]:
    """Give a generated password another value, wait until it has reached its processes, and prove that all works with it.

    Raises ConfigError for what is no such secret.
    """
    mine = [each.name for each in platform.stacks[name].secrets if each.generate == "password"]
    if platform.target.traits.combined or secret not in mine:
        raise ConfigError(
            f"{name}: {secret!r} is not a password that this task can change; available: {', '.join(mine) or 'none'}",
            "signing keys: ./invoke gateway.rotate-keys; encryption keys are never changed",
        )
    platform.target.store.merge(name, {secret: generate("password")})
    platform.say(f"{secret} has a new value; agents fetch it and processes restart within a minute")
    time.sleep(platform.settings.values["vault"]["render_interval"] + _RESTART_SECONDS)
    return prove(platform)
