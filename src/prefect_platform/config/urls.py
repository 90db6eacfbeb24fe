"""Addresses that follow from the settings."""

from __future__ import annotations

from prefect_platform.config.settings import Settings


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


def listen(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
