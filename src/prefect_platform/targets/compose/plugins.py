"""Traefik's plugins: routes of other stacks use them, and they come with Traefik's own release. A router whose plugin is missing answers 404."""

from __future__ import annotations

from typing import Any

from prefect_platform.config.stack import Stack
from prefect_platform.errors import ConfigError, PreflightError
from prefect_platform.files import parse_yaml
from prefect_platform.planning.bundle import PLUGINS, Bundle

from .on_host import Site

_OF_RELEASE = 'ls -d "$1"/files/*/"$2"/src/* 2>/dev/null || true'


def require(site: Site, bundle: Bundle) -> None:
    """Raises PreflightError for routes that use a plugin which the Traefik on the host, of an earlier version, lacks."""
    proxy = site.settings.roles.proxy
    folder = f"{site.host.root}/host/{proxy}/current"
    wanted = _used(bundle.routes)
    if (
        bundle.stack.name == proxy
        or not wanted
        or not site.host.sh('ls -d "$1" 2>/dev/null || true', folder).text
    ):
        return
    if lacking := wanted - _there(site, folder):
        raise PreflightError(
            f"{bundle.stack.name}: its routes use Traefik's plugin {', '.join(sorted(lacking))}, which the Traefik on {site.host.runner.place} lacks: "
            "an earlier version of this platform set it up",
            f"./invoke {proxy}.setup --env {site.env}, then the same command again; or all in order: ./invoke platform.setup --env {site.env}",
        )


def require_in(site: Site, stack: Stack, release: str) -> None:
    """Raises ConfigError for an earlier release of Traefik that lacks a plugin which routes use now."""
    if stack.name != site.settings.roles.proxy:
        return
    there = _there(site, f"{site.folder(stack)}/releases/{release}")
    for name, body in site.host.read_folder(f"{site.host.root}/host/routes").items():
        # What does not end so is being written for another environment.
        if name.endswith(".yml") and (lacking := _used(body) - there):
            raise ConfigError(
                f"{stack.name}: release {release} lacks the plugin {', '.join(sorted(lacking))}, which the routes in {name} use: they would answer 404",
                f"./invoke {stack.name}.releases --env {site.env} shows others; stay at {site.current(stack)}, or roll the stacks of those routes back first",
            )


def _there(site: Site, release: str) -> set[str]:
    found = site.host.sh(_OF_RELEASE, release, PLUGINS).text.split()
    return {path.rpartition("/")[2] for path in found}


def _used(routes: bytes | None) -> set[str]:
    """Names of the plugins in a file of routes."""
    parsed: Any = parse_yaml(routes) if routes else None
    middlewares = ((parsed or {}).get("http") or {}).get("middlewares") or {}
    return {name for each in middlewares.values() for name in each.get("plugin", ())}
