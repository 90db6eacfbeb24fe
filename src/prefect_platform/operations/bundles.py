"""The bundles that one setup applies together."""

from __future__ import annotations

from prefect_platform.config import sso, stack
from prefect_platform.environment.opened import Platform
from prefect_platform.errors import ConfigError
from prefect_platform.operations.stack_order import order, require_needs
from prefect_platform.planning import bundle, render

_SPARE = 8
"""Connections for what is no pool: three are PostgreSQL's reserve, the rest health checks, dumps and an operator's psql."""


def bundles(platform: Platform, name: str) -> list[bundle.Bundle]:
    """What is set up together. A combined target runs all under one supervisor, so what is set up stays included, and needs come
    along; elsewhere a stack stands for itself, and its needs must be there. Raises ConfigError, PreflightError.
    """
    target = platform.target
    chosen: list[stack.Stack] = []
    if not target.combined:
        chosen = [stack.with_needs(platform.stacks, name)[-1]]
        require_needs(platform, name)
        _check_connections(platform, chosen[0])
        if name == "authentik":
            sso.public_url(platform.settings)
        if name == "prefect" and sso.wanted(platform.settings):
            # Who may come in is the gateway's to say.
            chosen = [platform.stacks["gateway"], *chosen]
    for wanted in [*target.established(), name] if target.combined else ():
        chosen += [each for each in stack.with_needs(platform.stacks, wanted) if each not in chosen]
    return target.gather([build(platform, each) for each in chosen])


def build(platform: Platform, chosen: stack.Stack) -> bundle.Bundle:
    where = platform.target.where(chosen.name, chosen.scope)
    return platform.target.finish(render.build(chosen, platform.settings, where))


def _check_connections(platform: Platform, chosen: stack.Stack) -> None:
    """All stacks of an environment share one PostgreSQL. Raises ConfigError if their pools together are larger than what it takes."""
    if platform.target.combined or not (chosen.databases or chosen.name == "postgres"):
        return
    wanted = {}
    unused = {"authentik"} - set(order(platform, "prefect")) - {chosen.name}
    for each in (one for one in platform.stacks.values() if one.name not in unused):
        where = platform.target.where(each.name, each.scope)
        services = render.build(each, platform.settings, where).compose["services"].values()
        wanted[each.name] = sum((spec or {}).get("x-connections", 0) for spec in services)
    there, needed = platform.settings.values["postgres"]["max_connections"], sum(wanted.values()) + _SPARE
    if needed > there:
        told = ", ".join(f"{name} {number}" for name, number in wanted.items() if number)
        raise ConfigError(
            f"platform.postgres.max_connections: {there}, but the pools of all processes take {needed} ({told}, {_SPARE} to look in)",
            f"set it to {needed} or more, or fewer platform.prefect.replicas",
        )
