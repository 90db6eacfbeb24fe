"""One environment, opened: what is declared for it, and where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prefect_platform.config import database_url, private_app, settings, sso, stack, tls
from prefect_platform.config.objects import Canary, Desired, Zombies, desired_objects
from prefect_platform.errors import ConfigError
from prefect_platform.planning import bundle
from prefect_platform.targets import Say, Target, open_target

_RESERVED = {"prefect", "metrics"}
_CANARY = "canary.py:platform_canary"
_OWN_PATHS = {"prefect", "auth", "ping", "metrics", "verify", "outpost.goauthentik.io"}


@dataclass(frozen=True)
class Platform:
    """One environment, opened: what is declared and where it runs."""

    settings: settings.Settings
    stacks: Mapping[str, stack.Stack]
    target: Target
    say: Say

    @property
    def url(self) -> str:
        return bundle.public_url(self.settings)

    @property
    def served(self) -> bool:
        """Whether there is a gateway here. What is behind another one is proven there, as any client sees it."""
        return not private_app.private(self.settings)


def open_platform(
    root: Path,
    raw: Mapping[str, Any],
    env: str,
    environ: Mapping[str, str],
    say: Say,
    instead: Mapping[str, Any] | None = None,
) -> Platform:
    """Read and validate everything that is declared; `instead` are settings that count more. Raises ConfigError; nothing is touched."""
    stacks = stack.read_all(root)
    schema = settings.platform_schema({each.section: dict(each.settings) for each in stacks.values()})
    chosen = settings.load(root, raw, schema, env, environ, instead)
    _cross_check(chosen)
    there = private_app.stacks(chosen, _with_sso(chosen, stack.for_target(stacks, chosen.target)))
    there = {name: each.as_set(chosen.values[each.section]) for name, each in there.items()}
    return Platform(chosen, there, open_target(chosen, say), say)


def _with_sso(chosen: settings.Settings, stacks: dict[str, stack.Stack]) -> dict[str, stack.Stack]:
    """Where people sign in, Prefect needs Authentik; of one that runs elsewhere there is nothing to keep here."""
    if "authentik" not in stacks:
        return stacks
    changed = dict(stacks)
    if sso.wanted(chosen):
        changed["prefect"] = replace(stacks["prefect"], needs=(*stacks["prefect"].needs, "authentik"))
    if sso.external(chosen):
        changed["authentik"] = replace(stacks["authentik"], secrets=(), databases=())
    return changed


def _cross_check(chosen: settings.Settings) -> None:
    prefect = chosen.values["prefect"]
    pools = {pool["name"] for pool in prefect["work_pools"]}
    for worker in prefect["workers"]:
        if worker["pool"] not in pools:
            raise ConfigError(
                f"platform.prefect.workers: {worker['name']}: pool {worker['pool']!r} is not in work_pools ({', '.join(sorted(pools))})"
            )
    for place, names in (
        ("prefect.workers", [worker["name"] for worker in prefect["workers"]]),
        ("gateway.routes", [route["name"] for route in chosen.values["gateway"]["routes"]]),
    ):
        reserved = _RESERVED & set(names)
        if place == "gateway.routes" and reserved:
            raise ConfigError(f"platform.{place}: the name {sorted(reserved)[0]!r} belongs to the platform")
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ConfigError(f"platform.{place}: {sorted(twice)[0]!r} is declared twice")
    for route in chosen.values["gateway"]["routes"]:
        first = route["path"].split("/")[1] if route["path"] else ""
        if first in _OWN_PATHS:
            # Its rule would be longer than ours and win: a public route could open what a door guards.
            raise ConfigError(
                f"platform.gateway.routes: {route['name']}: paths under /{first} belong to the platform"
            )
    if url := prefect["database_url"]:
        _check_database(chosen, url)
    private_app.validate(chosen)
    if prefect["replica"]:
        _check_replica(chosen)
    tls.validate(chosen)
    sso.validate(chosen, urlsplit(bundle.public_url(chosen)).hostname or "")
    _desired(chosen, None)


def _check_database(chosen: settings.Settings, url: str) -> None:
    if chosen.target == "compose":
        raise ConfigError(
            f"{database_url.KEY}: target compose has a PostgreSQL of its own; this is for local and fly",
            "leave it out",
        )
    database_url.parse(url)


def _check_replica(chosen: settings.Settings) -> None:
    if chosen.target != "fly":
        raise ConfigError(
            f"platform.prefect.replica: target {chosen.target} has none; it is for the one volume of target fly",
            "leave it out, and copy what ./invoke prefect.backup writes",
        )
    if chosen.values["prefect"]["database_url"]:
        raise ConfigError(
            "platform.prefect.replica is a copy of the SQLite database, and platform.prefect.database_url is set: leave one of them out"
        )


def desired(platform: Platform) -> Desired:
    """The objects that the settings declare in Prefect."""
    return _desired(platform.settings, platform.target.where("prefect").bundle)


def _desired(chosen: settings.Settings, folder: str | None) -> Desired:
    section = chosen.values["prefect"]
    beat = section["heartbeat_seconds"]
    workers = section["workers"]
    canary = None
    if folder and workers:
        canary = Canary(workers[0]["pool"], folder, _CANARY)
    elif folder and section["work_pools"]:
        source = (chosen.root / "stacks" / "prefect" / "canary.py").read_text()
        canary = Canary(section["work_pools"][0]["name"], None, _CANARY, source=source)
    return desired_objects(section, Zombies(beat, max(90, 3 * beat)), canary)
