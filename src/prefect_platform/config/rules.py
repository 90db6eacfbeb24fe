"""Rules between settings, which no schema can say."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from prefect_platform.config import (
    database_url,
    private_app,
    route_targets,
    routes,
    seal,
    settings,
    shared_host,
    sso,
    stack,
    tls,
    urls,
)
from prefect_platform.config.objects import OUR_TYPE, desired
from prefect_platform.errors import ConfigError


def with_sso(chosen: settings.Settings, stacks: dict[str, stack.Stack]) -> dict[str, stack.Stack]:
    """Where people sign in, Prefect needs Authentik; of one that runs elsewhere there is nothing to keep here."""
    if "authentik" not in stacks:
        return stacks
    changed = dict(stacks)
    if sso.wanted(chosen):
        # Who may come in is the gateway's to say, so it is set up again with Prefect.
        changed["prefect"] = replace(
            stacks["prefect"], needs=(*stacks["prefect"].needs, "authentik"), along=("gateway",)
        )
    if sso.external(chosen):
        changed["authentik"] = replace(stacks["authentik"], secrets=(), databases=())
    return changed


def cross_check(chosen: settings.Settings) -> None:
    urls.refuse_shared(chosen)
    shared_host.refuse_differences(chosen)
    prefect = chosen.values["prefect"]
    _check_pools_of_workers(chosen)
    names = [worker["name"] for worker in prefect["workers"]]
    _refuse_twice("prefect.workers", names)
    _refuse_twice("gateway.routes", [route["name"] for route in chosen.values["gateway"]["routes"]])
    routes.check(chosen.values["gateway"]["routes"], route_targets.platform_of(chosen))
    if chosen.traits.combined:
        _check_ports(chosen)
    if url := prefect["database_url"]:
        _check_database(chosen, url)
    private_app.validate(chosen)
    if prefect["replica"]:
        _check_replica(chosen)
    tls.validate(chosen)
    seal.validate(chosen)
    sso.validate(chosen, urlsplit(urls.public_url(chosen)).hostname or "")
    desired(chosen, None)


def _check_pools_of_workers(chosen: settings.Settings) -> None:
    prefect = chosen.values["prefect"]
    pools = {pool["name"]: (number, pool["type"]) for number, pool in enumerate(prefect["work_pools"])}
    for worker in prefect["workers"]:
        if worker["pool"] not in pools:
            raise ConfigError(
                f"platform.prefect.workers: {worker['name']}: pool {worker['pool']!r} is not in work_pools ({', '.join(sorted(pools))})"
            )
        number, kind = pools[worker["pool"]]
        if kind != OUR_TYPE:
            place = chosen.place("prefect", "work_pools", number, "type")
            raise ConfigError(
                f"{place}: {worker['pool']} is of type {kind}, but our worker {worker['name']} serves it, which runs every flow as a "
                f"process of its own machine: an image or a memory limit would be ignored",
                f"set type {OUR_TYPE}; or leave that worker out of prefect.workers, and start one of type {kind} elsewhere",
            )


def _refuse_twice(place: str, names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"platform.{place}: {twice[0]!r} is defined twice")


def _check_ports(chosen: settings.Settings) -> None:
    taken: dict[int, str] = {}
    for place, port in route_targets.ports(chosen):
        if (other := taken.setdefault(port, place)) != place:
            raise ConfigError(
                f"{place}: {port} is {other} too; each needs a port of its own",
                f"change one of the two: {place}",
            )


def port_keys(chosen: settings.Settings, section: str, port: int) -> str:
    """The keys that set a port, where they take effect: on one machine any section's, else those of the stack that publishes it."""
    of_stack = [(section, key) for key in chosen.values.get(section, {}) if key.endswith("port")]
    places = route_targets.PORTS if chosen.traits.combined else of_stack
    return ", ".join(chosen.key(*place) for place in places if chosen.values[place[0]][place[1]] == port)


def _check_database(chosen: settings.Settings, url: str) -> None:
    if chosen.traits.postgres:
        raise ConfigError(
            f"{database_url.KEY}: only for targets local and fly; target compose runs its own PostgreSQL",
            "leave it out",
        )
    database_url.parse(url)


def _check_replica(chosen: settings.Settings) -> None:
    if not chosen.traits.replica:
        raise ConfigError(
            f"platform.prefect.replica: target {chosen.target} does not support it; only target fly does",
            "leave it out, and copy what ./invoke prefect.backup writes",
        )
    if chosen.values["prefect"]["database_url"]:
        raise ConfigError(
            "platform.prefect.replica replicates SQLite, but platform.prefect.database_url is set: remove one of them"
        )
