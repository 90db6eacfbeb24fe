"""The bundles that one setup applies together."""

from __future__ import annotations

from prefect_platform.config import stack
from prefect_platform.environment import provisioners
from prefect_platform.environment.opened import Platform
from prefect_platform.errors import ConfigError
from prefect_platform.operations.stack_order import missing_needs, order, require_needs, require_stack
from prefect_platform.planning import bundle, render
from prefect_platform.planning.diff import Plan

_SPARE = 8
"""Connections for what is no pool: three are PostgreSQL's reserve, the rest health checks, dumps and an operator's psql."""


def bundles(platform: Platform, name: str) -> list[bundle.Bundle]:
    """What is set up together. A combined target runs all under one supervisor, so what is set up stays included, and needs are
    included too; elsewhere a stack is set up by itself, and its needs must be set up. Raises ConfigError, PreflightError.
    """
    require_stack(platform, name)
    if missing_needs(platform, name):
        # A host that cannot run anything is the first thing to say, before what it does not run yet.
        platform.target.preflight(Plan(()), ())
        require_needs(platform, name)
    return unready_bundles(platform, name)


def unready_bundles(platform: Platform, name: str) -> list[bundle.Bundle]:
    """As `bundles`, whether set up or not: for commands on the whole environment."""
    target, chosen = platform.target, list[stack.Stack]()
    if not target.traits.combined:
        mine = stack.with_needs(platform.stacks, name)[-1]
        chosen = [*(platform.stacks[each] for each in mine.along), mine]
        for each in chosen:
            for provisioner in provisioners.of(each):
                provisioner.check(platform)
        _check_connections(platform, mine)
    for wanted in [*target.established(), name] if target.traits.combined else ():
        chosen += [each for each in stack.with_needs(platform.stacks, wanted) if each not in chosen]
    return target.adapt([render_stack(platform, each) for each in chosen])


def render_stack(platform: Platform, chosen: stack.Stack) -> bundle.Bundle:
    where = platform.target.where(chosen.name, chosen.scope)
    return render.build(chosen, platform.settings, where, platform.target.memory())


def _check_connections(platform: Platform, chosen: stack.Stack) -> None:
    """All stacks of an environment share one PostgreSQL. Raises ConfigError if their pools together are larger than what it takes."""
    if platform.target.traits.combined or not (
        chosen.databases or "max_connections" in chosen.settings["properties"]
    ):
        return
    wanted = {}
    used = {*order(platform, platform.main), chosen.name}
    for each in (one for one in platform.stacks.values() if one.name in used):
        where = platform.target.where(each.name, each.scope)
        wanted[each.name] = render.connections(each, platform.settings, where)
    there, needed = platform.settings.values["postgres"]["max_connections"], sum(wanted.values()) + _SPARE
    if needed > there:
        told = ", ".join(f"{name} {number}" for name, number in wanted.items() if number)
        raise ConfigError(
            f"platform.postgres.max_connections: {there}, but all connection pools together need {needed} ({told}, {_SPARE} reserved for administration)",
            f"set it to {needed} or more, or fewer platform.prefect.replicas",
        )
