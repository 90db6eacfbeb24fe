"""Routes of a user's own: rules that no schema can say, and what Traefik gets for each. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from prefect_platform.config import route_targets
from prefect_platform.config.route_targets import KEY, Platform
from prefect_platform.errors import ConfigError

SCOPES = {
    "prefect": "Prefect's UI and API",
    "prefect:read": "what only reads of Prefect's API",
    "metrics": "metrics of Traefik and of Prefect",
}
"""What a token may open whatever the routes; the name of a route opens that route."""
_RESERVED_NAMES = {"prefect", "metrics"}
_OWN_PATHS = {"prefect", "auth", "ping", "metrics", "verify", "outpost.goauthentik.io"}
# What a server may drop from a segment before it looks for a name: parameters (`;x`), blanks, dots at the end.
_OTHER = r"[^A-Za-z0-9._~/-]"
_NOTHING = r"(?:/[\s.]*(?:(?:;|%3B)[^/]*)?)*"
_OTHER_END = rf"\.*(?:{_OTHER}[^/]*)?"
PARENT = rf"/\.\.?{_OTHER}"
"""`..;` and the like: Traefik takes it for a name, Java servers for the folder above."""


@dataclass(frozen=True)
class Routed:
    """A route as its template needs it. `paths` is Traefik's rule for its paths, empty for all of them; `sandboxed` whether its pages
    share a host with Prefect's, and so must not have that host's origin.
    """

    name: str
    host: str
    paths: str
    path: str
    priority: int
    url: str
    auth: str
    strip_prefix: bool
    rate_limit: int | None
    sandboxed: bool


def check(routes: Sequence[Mapping[str, Any]], platform: Platform) -> None:
    """Raises ConfigError."""
    taken: dict[tuple[str, str], str] = {}
    for route in routes:
        place = f"{KEY}: {route['name']}"
        if route["name"] in _RESERVED_NAMES:
            raise ConfigError(f"{KEY}: the name {route['name']!r} is reserved")
        _check_path(place, route["path"])
        _check_host(place, route, platform)
        _check_url(place, route["url"])
        route_targets.check(place, route["url"], platform)
        where = (_host(route) or platform.route_host, route["path"].lower())
        if (other := taken.setdefault(where, route["name"])) != route["name"]:
            raise ConfigError(
                f"{place}: has the host and path of {other!r}, so requests could reach either",
                "give each route a path or host of its own",
            )


def check_scopes(routes: Sequence[Mapping[str, Any]], text: str, of_stacks: Collection[str] = ()) -> None:
    """Raises ConfigError for a token's scope that would open nothing, naming those that exist. `of_stacks`: what a stack's own routes ask for."""
    own = {route["name"] for route in routes if route["auth"] in ("token", "sso-or-token")} | {*of_stacks}
    words = text.split(" ")
    if unknown := [word for word in words if word not in own | {*SCOPES}]:
        exist = ", ".join([*SCOPES, *sorted(own)])
        closed = next((route["auth"] for route in routes if route["name"] == unknown[0]), "")
        why = f"that route takes no tokens (auth: {closed})" if closed else "no such scope"
        raise ConfigError(
            f"--scope {unknown[0]!r}: {why}", f"scopes: {exist}; a route in {KEY} adds its name"
        )


def foreign_hosts(routes: Sequence[Mapping[str, Any]], platform: Platform) -> list[str]:
    """Hosts of routes that are not the platform's: sessions are not accepted there, where a page of the service could use them."""
    return sorted({_host(route) for route in routes} - {"", *platform.hosts})


def routed(routes: Sequence[Mapping[str, Any]], platform: Platform) -> list[Routed]:
    return [
        Routed(
            route["name"],
            _host(route) or platform.route_host,
            _paths(route, routes, platform),
            route["path"],
            # The longer path wins whoever it is for, then the named host; the last digit is left to the kinds of clients of one route.
            300 + 20 * len(route["path"]) + 10 * bool(route["host"]),
            route["url"],
            route["auth"],
            route["strip_prefix"],
            route["rate_limit"],
            _host(route) in ("", *platform.hosts),
        )
        for route in routes
    ]


def _paths(route: Mapping[str, Any], routes: Sequence[Mapping[str, Any]], platform: Platform) -> str:
    path = route["path"]
    if not path:
        return ""
    plain = f"PathPrefix(`{path}/`) || Path(`{path}`)"
    above = any(_covers(other, route, platform) for other in routes)
    return (
        f"{plain} || PathRegexp(`{_other_spellings(path)}`)" if above and route["auth"] != "public" else plain
    )


def _covers(other: Mapping[str, Any], route: Mapping[str, Any], platform: Platform) -> bool:
    """Whether what this route misses falls to the other one."""
    above = not other["path"] or route["path"].startswith(f"{other['path']}/")
    hosts = {_host(other) or platform.route_host, _host(route) or platform.route_host}
    return above and other is not route and (len(hosts) == 1 or "" in hosts)


def _other_spellings(path: str) -> str:
    """Paths that a server behind may take for this one although they are written otherwise: `/P/Admin`, `/p/admin;x/`, `/p/admin%20/`."""
    segments = [f"{_NOTHING}/{_OTHER}*{re.escape(name)}{_OTHER_END}" for name in path.split("/")[1:]]
    return f"(?i)^{''.join(segments)}(?:/|$)"


def _host(route: Mapping[str, Any]) -> str:
    return str(route["host"]).lower().rstrip(".")


def _check_host(place: str, route: Mapping[str, Any], platform: Platform) -> None:
    host = _host(route) or platform.route_host
    if not (host or route["path"]):
        raise ConfigError(f"{place}: a path or a host is required", "such as path: /myapp")
    if not route["path"] and platform.at_root and host in platform.hosts:
        raise ConfigError(
            f"{place}: {host} is Prefect's own host, and without a path the route would take all of it",
            "give the route a path, or a host of its own",
        )


def _check_path(place: str, path: str) -> None:
    parts = path.split("/")[1:]
    if {".", ".."} & {*parts}:
        # Clients and proxies resolve these before they ask, so it would match nothing, or something else.
        raise ConfigError(
            f"{place}: path {path}: '.' and '..' are not allowed", "write the path without them"
        )
    if parts and parts[0].lower().rstrip(".") in _OWN_PATHS:
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
