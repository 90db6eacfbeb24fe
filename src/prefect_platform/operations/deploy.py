"""The one way to deploy. setup = bundles → plan → preflight → apply → provision → checks; plan = the same, stopped before effects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from prefect_platform.checks.check import Check
from prefect_platform.checks.health import check, failing, machine_checks, process_checks, prove
from prefect_platform.config import prefect_version
from prefect_platform.environment import provisioners
from prefect_platform.environment.opened import Platform
from prefect_platform.environment.provisioners import Done, Ready
from prefect_platform.planning import bundle, diff
from prefect_platform.targets.protocol import Exposes, Notes

from . import given
from .bundles import bundles, unready_bundles
from .preconditions import require_given_secrets, require_preconditions
from .stack_order import order

READY_SECONDS = 120


@dataclass(frozen=True)
class Report:
    """What a setup did and what the checks found. `plan.inside` are the steps done within the services."""

    plan: diff.Plan
    notices: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        return all(check.ok for check in self.checks)


def make_plan(platform: Platform, built: Sequence[bundle.Bundle]) -> diff.Plan:
    """Everything that setup would do, as of now; touches nothing."""
    seen, kept = given.observe(platform, built)
    todo = diff.make(built, seen)
    return replace(todo, inside=(*kept, *_inside(platform, built, todo)))


def _inside(platform: Platform, built: Sequence[bundle.Bundle], todo: diff.Plan) -> tuple[diff.Step, ...]:
    """What the provisioners would do. Raises ConfigError for what they refuse."""
    running = _running(platform, built, todo)
    steps = (
        step
        for each in built
        for provisioner in provisioners.of(each.stack)
        for step in provisioner.plan(platform, running)
    )
    return tuple(dict.fromkeys(steps))


def warnings(platform: Platform, built: Sequence[bundle.Bundle]) -> tuple[str, ...]:
    """What the configuration will lose, said before it does: with a plan, and before a setup touches anything."""
    where = platform.target.where(platform.main)
    images = where.official or where.topology == "split"
    if not (images and any(each.stack.proves for each in built)):
        return ()
    settings = platform.settings
    return prefect_version.warnings(settings.values["prefect"], prefect_version.pinned(settings.root))


def plan_environment(platform: Platform) -> Iterator[tuple[str, diff.Plan]]:
    """(stack, its plan) of everything that `platform.setup` sets up, in that order, as if those before it were set up."""
    for name in order(platform, platform.main):
        built = unready_bundles(platform, name)
        for warning in warnings(platform, built):
            platform.say(f"warning: {warning}")
        yield name, make_plan(platform, built)


def setup(platform: Platform, name: str, wait: float, ready_seconds: float = READY_SECONDS) -> Report:
    """Make it so and prove it; `ready_seconds` is what Prefect may take to answer. Raises the error of the step that failed; run it
    again to resume.
    """
    built = bundles(platform, name)
    with platform.target.lock(f"{name}.setup", wait):
        for each in built:
            require_given_secrets(platform, each)
        seen, kept = given.observe(platform, built)
        todo = replace(diff.make(built, seen), inside=kept)
        for warning in warnings(platform, built):
            platform.say(f"warning: {warning}")
        if todo.steps:
            # What a provisioner would refuse is refused before the first step; without steps it is the first to act.
            _inside(platform, built, todo)
            require_preconditions(platform, todo, built)
        if todo.steps or kept:
            platform.say(str(todo))
        given.store(platform, built)
        platform.target.apply(todo, built)
        done = _provision(platform, built, ready_seconds)
        todo = replace(todo, inside=(*kept, *done.steps))
        return Report(todo, (*done.notices, *_notes(platform)), _checks(platform, name, todo))


def _running(platform: Platform, built: Sequence[bundle.Bundle], todo: diff.Plan) -> bool:
    """Whether the services of these bundles can be queried: they run, and will not be installed first."""
    if todo.of("install") or not platform.target.processes():
        return False
    return not any(diff.starts_all(each, todo) for each in built)


def _provision(platform: Platform, built: Sequence[bundle.Bundle], ready_seconds: float) -> Done:
    """Inside the services, each stack's in turn; its routes are served once it is complete."""
    ready = Ready(ready_seconds, lambda: _hopeless(platform))
    steps: tuple[diff.Step, ...] = ()
    notices: tuple[str, ...] = ()
    for each in built:
        for provisioner in provisioners.of(each.stack):
            done = provisioner.apply(platform, ready)
            steps, notices = steps + done.steps, notices + done.notices
        if each.stack.expose == "when-complete" and isinstance(platform.target, Exposes):
            platform.target.expose(each)
    return Done(tuple(dict.fromkeys(steps)), notices)


def _hopeless(platform: Platform) -> tuple[str, str] | None:
    """Why waiting for a service is in vain, and the next command."""
    gone = [
        line
        for line in failing(platform)
        if line.name == "disk" or line.detail.startswith(("FATAL", "FAILING"))
    ]
    if not gone:
        return None
    return "; ".join(f"{line.name}: {line.detail}" for line in gone), gone[-1].hint


def _checks(platform: Platform, name: str, done: diff.Plan) -> tuple[Check, ...]:
    if not platform.served:
        return tuple(machine_checks(platform))
    if not platform.target.traits.combined and not platform.stacks[name].proves:
        # Set up one after another, in order of need: what comes later may not exist yet.
        return tuple(process_checks(platform, name))
    if not done.steps and not done.inside:
        found = check(platform)
        if all(each.ok for each in found):
            return found
    # Unhealthy with an empty plan may be recovering (a disk that has room again): it gets the time that a change gets.
    return prove(platform)


def _notes(platform: Platform) -> tuple[str, ...]:
    """What was read differently from how it was written, and what will not happen."""
    of_target = platform.target.notes() if isinstance(platform.target, Notes) else ()
    return (*platform.notes(), *of_target)
