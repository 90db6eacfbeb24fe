"""Routes of a user's own: rules that no schema can say. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from prefect_platform.errors import ConfigError

KEY = "platform.gateway.routes"
SCOPES = {
    "prefect": "Prefect's UI and API",
    "prefect:read": "what only reads of Prefect's API",
    "metrics": "metrics of Traefik and of Prefect",
}
"""What a token may open whatever the routes; the name of a route opens that route."""
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


def check_scopes(routes: Sequence[Mapping[str, Any]], text: str) -> None:
    """Raises ConfigError for a token's scope that would open nothing, naming those that exist."""
    own = {route["name"] for route in routes if route["auth"] in ("token", "sso-or-token")}
    words = text.split(" ")
    if unknown := [word for word in words if word not in own | {*SCOPES}]:
        exist = ", ".join([*SCOPES, *sorted(own)])
        closed = next((route["auth"] for route in routes if route["name"] == unknown[0]), "")
        why = f"that route takes no tokens (auth: {closed})" if closed else "no such scope"
        raise ConfigError(
            f"--scope {unknown[0]!r}: {why}", f"scopes: {exist}; a route in {KEY} adds its name"
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
