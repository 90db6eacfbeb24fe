"""Routes of a user's own: rules that no schema can say. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from prefect_platform.errors import ConfigError

KEY = "platform.gateway.routes"
_RESERVED_NAMES = {"prefect", "metrics"}
_OWN_PATHS = {"prefect", "auth", "ping", "metrics", "verify", "outpost.goauthentik.io"}


def check(routes: Sequence[Mapping[str, Any]]) -> None:
    """Raises ConfigError."""
    taken: dict[tuple[str, str], str] = {}
    for route in routes:
        place = f"{KEY}: {route['name']}"
        if route["name"] in _RESERVED_NAMES:
            raise ConfigError(f"{KEY}: the name {route['name']!r} is reserved")
        _check_path(place, route["path"])
        _check_url(place, route["url"])
        where = (route["host"].lower(), route["path"])
        if (other := taken.setdefault(where, route["name"])) != route["name"]:
            raise ConfigError(
                f"{place}: has the host and path of {other!r}, so requests could reach either",
                "give each route a path or host of its own",
            )


def _check_path(place: str, path: str) -> None:
    parts = path.split("/")[1:]
    if {".", ".."} & {*parts}:
        # Clients and proxies resolve these before they ask, so it would match nothing, or something else.
        raise ConfigError(
            f"{place}: path {path}: '.' and '..' are not allowed", "write the path without them"
        )
    if parts and parts[0] in _OWN_PATHS:
        # Its rule would be longer than ours and win: a public route could expose a protected one.
        raise ConfigError(f"{place}: paths under /{parts[0]} belong to the platform")


def _check_url(place: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        valid = bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(
            f"{place}: url {url}: no valid host and port", "a URL like http://service.internal:8000"
        )
