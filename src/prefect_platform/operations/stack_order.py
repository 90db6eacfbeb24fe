"""Which stacks go before which."""

from __future__ import annotations

from prefect_platform.config import stack
from prefect_platform.environment.opened import Platform
from prefect_platform.errors import ConfigError, PreflightError


def require_stack(platform: Platform, name: str) -> stack.Stack:
    """The stack as this environment runs it. Raises ConfigError for one that its target does not have."""
    if name not in platform.stacks:
        raise ConfigError(
            f"environment {platform.settings.env!r}: target {platform.target.traits.name} has no stack {name!r}",
            f"stacks here: {', '.join(platform.stacks)}; or name another environment: --env NAME",
        )
    return platform.stacks[name]


def order(platform: Platform, name: str) -> list[str]:
    """The stacks to set up one after another for `name`: a combined target sets up all of them at once."""
    if platform.target.traits.combined:
        return [name]
    return [each.name for each in stack.with_needs(platform.stacks, name)]


def missing_needs(platform: Platform, name: str) -> list[str]:
    """The stacks that must be set up before `name` and are not, in order; a combined target includes them."""
    if platform.target.traits.combined:
        return []
    there = platform.target.established()
    return [each for each in order(platform, name)[:-1] if each not in there]


def require_needs(platform: Platform, name: str) -> None:
    env = platform.settings.env
    for need in missing_needs(platform, name):
        raise PreflightError(
            f"{name} needs {need}, which is not set up in environment {env!r}",
            f"./invoke {need}.setup --env {env}, or all in order: ./invoke {name}.setup --with-needs --env {env}",
        )
