"""Which doors are for people who sign in with Authentik, and where Authentik is: read off the settings. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from prefect_platform.errors import ConfigError

from .settings import Settings

EVERYONE = "*"
DOORS = ("sso", "sso-or-token")


@dataclass(frozen=True)
class Sso:
    """`url` is where people sign in, `outpost` where Traefik reaches the outpost, `hosts` those of its doors.

    `policy` is what the verifier gets: JSON of groups by scope, and of the administrators'.
    """

    url: str
    outpost: str
    hosts: tuple[str, ...]
    policy: str
    external: bool

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""


def guards_prefect(settings: Settings) -> bool:
    """Whether people sign in to open Prefect."""
    return settings.values["prefect"]["auth"] in DOORS


def wanted(settings: Settings) -> bool:
    """Whether any door is for people who sign in."""
    routes = settings.values["gateway"]["routes"]
    return guards_prefect(settings) or any(each["auth"] in DOORS for each in routes)


def external(settings: Settings) -> bool:
    """Whether Authentik runs elsewhere."""
    return bool(settings.values["authentik"]["url"])


def known_url(settings: Settings) -> str:
    """The login URL, without a slash at the end; empty when not configured."""
    section = settings.values["authentik"]
    given = section["url"] or section["public_url"]
    if not given and settings.values["domain"]:
        return f"https://sso{settings.env_suffix}.{settings.values['domain']}"
    return str(given or "")


def public_url(settings: Settings) -> str:
    """As `known_url`. Raises ConfigError when not configured."""
    if found := known_url(settings):
        return found
    raise ConfigError(
        "platform.authentik.public_url: not set, and there is no platform.domain to make it from",
        "set it to the login URL, e.g. https://sso.example.com",
    )


def doors(settings: Settings, host: str, server: str) -> Sso | None:
    """None when no route uses single sign-on. `host` is the platform's own; `server` our Authentik's name for others."""
    if not wanted(settings):
        return None
    section = settings.values["authentik"]
    mine = [host] if guards_prefect(settings) else []
    routes = [each["host"] or host for each in settings.values["gateway"]["routes"] if each["auth"] in DOORS]
    outpost = section["outpost_url"] or section["url"] or f"http://{server}:9000"
    hosts = tuple(dict.fromkeys([*mine, *routes]))
    return Sso(public_url(settings), outpost, hosts, json.dumps(_policy(settings.values)), external(settings))


def _policy(values: Mapping[str, Any]) -> dict[str, Any]:
    groups = {
        each["name"]: each["allowed_groups"] for each in values["gateway"]["routes"] if each["auth"] in DOORS
    }
    if values["prefect"]["auth"] in DOORS:
        groups["prefect"] = values["prefect"]["allowed_groups"]
    return {"groups": groups, "admins": [values["authentik"]["admin_group"]]}


def validate(settings: Settings, host: str) -> None:
    """`host` is the platform's own. Raises ConfigError with the key."""
    if not wanted(settings):
        return
    if not settings.traits.sso:
        raise ConfigError(
            f"platform: single sign-on (auth: {' or '.join(DOORS)}) needs target compose; this is {settings.target}",
            "platform.prefect.auth: login-link",
        )
    found = doors(settings, host, "")
    if found and found.host in found.hosts:
        raise ConfigError(
            f"platform.authentik: {found.url} is also the host of a protected route: the login needs its own host",
            "platform.authentik.public_url: https://sso.…",
        )
    for place, groups in _asked(settings.values):
        if not groups:
            raise ConfigError(
                f"platform.{place}: allowed_groups is empty: nobody could sign in",
                f'list Authentik groups, or "{EVERYONE}" for everybody who can sign in',
            )
        if EVERYONE in groups and len(groups) > 1:
            raise ConfigError(
                f'platform.{place}: allowed_groups: "{EVERYONE}" already includes the other groups'
            )


def _asked(values: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    routes = [
        (f"gateway.routes: {each['name']}", each["allowed_groups"])
        for each in values["gateway"]["routes"]
        if each["auth"] in DOORS
    ]
    own = [("prefect", values["prefect"]["allowed_groups"])] if values["prefect"]["auth"] in DOORS else []
    return own + routes
