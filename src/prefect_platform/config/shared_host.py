"""What the environments of one host share is set up for all of them at once: their settings of it must be the same."""

from __future__ import annotations

from typing import Any

from prefect_platform.config.settings import Settings
from prefect_platform.errors import ConfigError

_GATEWAY = ("auth_port", "ops_port", "max_open_per_client", "max_body_mb")
"""What Traefik itself takes of the gateway's (stacks/traefik/*.j2)."""
_VAULT = ("image", "seal", "seal_credentials", "memory")
"""Of the Vault that runs on the host; how an environment reaches one is its own."""


def refuse_differences(settings: Settings) -> None:
    """Raises ConfigError for a key that another environment of the same host has otherwise: the one set up last would change the other."""
    for other in settings.others:
        if settings.traits.combined or other.traits != settings.traits or not _same_host(settings, other):
            continue
        mine, theirs = _shared(settings), _shared(other)
        for path in sorted({*mine} & {*theirs}):
            if mine[path] != theirs[path]:
                raise ConfigError(
                    f"{settings.key(*path)}: environments {settings.env} and {other.env} share {path[0]} on {settings.values['host']}, "
                    f"but {other.env} has another {path[1]} ({other.key(*path)})",
                    f"set it once for both: platform.{'.'.join(path)}",
                )


def _same_host(settings: Settings, other: Settings) -> bool:
    return bool(settings.values["host"]) and settings.values["host"] == other.values["host"]


def _shared(settings: Settings) -> dict[tuple[str, str], Any]:
    values = settings.values
    keys = [("traefik", key) for key in values["traefik"]] + [("gateway", key) for key in _GATEWAY]
    keys += [] if values["vault"]["address"] else [("vault", key) for key in _VAULT]
    return {(section, key): values[section][key] for section, key in keys}
