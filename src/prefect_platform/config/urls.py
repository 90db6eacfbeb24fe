"""Addresses that follow from the settings."""

from __future__ import annotations

from urllib.parse import urlsplit

from prefect_platform.config import private_app
from prefect_platform.config.settings import Settings
from prefect_platform.errors import ConfigError


def public_url(settings: Settings) -> str:
    """Where people and clients reach the gateway, without a slash at the end."""
    gateway = settings.values["gateway"]
    given = gateway["public_url"]
    if not given and settings.values["domain"]:
        return f"https://prefect{settings.env_suffix}.{settings.values['domain']}"
    if not given and settings.traits.provided_url:
        return settings.traits.provided_url.format(**settings.values)
    host = gateway["host"]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return str(given or f"http://{listen(shown, gateway['port'])}")


def made_by_target(settings: Settings) -> bool:
    """Whether the public name is created by the first setup, so that it cannot be checked before."""
    given = settings.values["gateway"]["public_url"] or settings.values["domain"]
    return not given and bool(settings.traits.provided_url)


def refuse_shared(settings: Settings) -> None:
    """Raises ConfigError for a public URL that another environment has too: this one's tokens would go to the other's gateway.

    One that follows from an environment's own ports does not count: it exists only while that environment runs. Nor does that of a
    `local` which nobody declared, but for another environment of its target: the common settings may be meant for the one that is declared.
    """
    mine = _named(settings)
    for other in settings.others if mine and not _undeclared(settings) else ():
        if _named(other) == mine and not (_undeclared(other) and other.traits != settings.traits):
            raise ConfigError(
                f"{settings.key('gateway', 'public_url')}: environments {settings.env} and {other.env} have the same public URL, {public_url(settings)}",
                f"give {settings.env} its own: platform.environments.{settings.env}.gateway.public_url",
            )


def _undeclared(settings: Settings) -> bool:
    return settings.env == "local" and not settings.layer


def _named(settings: Settings) -> tuple[str, int] | None:
    """Host and port of a public URL that the settings name; None for one that is made from ports, by the target, or is not used."""
    gateway = settings.values["gateway"]["public_url"] or settings.values["domain"]
    if not gateway or private_app.private(settings):
        return None
    parts = urlsplit(public_url(settings))
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def listen(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
