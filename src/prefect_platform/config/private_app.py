"""The gateway in an app of its own, before a Prefect that only the private network reaches: two environments, and what each then lacks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from prefect_platform.errors import ConfigError

from .settings import Settings
from .stack import Stack

UPSTREAM, PRIVATE = "platform.prefect.upstream", "platform.fly.private"


def validate(chosen: Settings) -> None:
    """Raises ConfigError for what cannot be together."""
    prefect, fly = chosen.values["prefect"], chosen.values["fly"]
    if not (prefect["upstream"] or private(chosen)):
        return
    key = UPSTREAM if prefect["upstream"] else PRIVATE
    if not chosen.traits.private_network:
        raise ConfigError(f"{key}: only target fly has a private network", "leave it out")
    if prefect["upstream"] and private(chosen):
        raise ConfigError(
            f"{UPSTREAM} and {PRIVATE}: an app is either the gateway or behind one: set only one of them",
            "use one environment for each: docs/fly.md",
        )
    if prefect["workers"]:
        raise ConfigError(
            f"{key}: with it, workers must run elsewhere and connect through the gateway",
            "set platform.prefect.workers: [] in this environment",
        )
    if private(chosen) and fly["auto_stop"] != "off":
        raise ConfigError(
            f"{PRIVATE}: requests over the private network do not wake a machine",
            'set platform.fly.auto_stop: "off" in this environment',
        )


def private(chosen: Settings) -> bool:
    """Whether this environment is a Prefect without a gateway."""
    return bool(chosen.traits.private_network and chosen.values["fly"]["private"])


def stacks(chosen: Settings, there: Mapping[str, Stack]) -> dict[str, Stack]:
    """Without what the other app keeps."""
    changed = dict(there)
    if chosen.values["prefect"]["upstream"]:
        changed["prefect"] = replace(there["prefect"], secrets=(), databases=())
    if private(chosen):
        changed["prefect"] = replace(there["prefect"], needs=())
    return changed
