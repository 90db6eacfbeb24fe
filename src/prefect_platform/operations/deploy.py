"""The use cases. setup = settings → stacks → bundles → plan → target → objects → checks; plan = the same, stopped before the target."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from prefect_platform.checks.check import Check
from prefect_platform.checks.health import check, machine_checks, process_checks, prove
from prefect_platform.config import database_url
from prefect_platform.environment import authentik
from prefect_platform.environment.platform import Platform
from prefect_platform.operations.bundles import bundles
from prefect_platform.operations.objects import READY_SECONDS, ensure_objects
from prefect_platform.planning import bundle, diff
from prefect_platform.secretstore.store import keep_given
from prefect_platform.targets.fly import sleeping


@dataclass(frozen=True)
class Report:
    """What a setup did and what the checks found. `changes` are the objects in Prefect that were created or updated."""

    plan: diff.Plan
    changes: tuple[str, ...]
    notices: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        return all(check.ok for check in self.checks)


def make_plan(platform: Platform, built: Sequence[bundle.Bundle]) -> diff.Plan:
    """The plan as of now; touches nothing."""
    stacks = [each.stack for each in built]
    observed = platform.target.observe(stacks)
    return diff.make(built, observed, platform.target.runtime, [each.name for each in stacks])


def setup(platform: Platform, name: str, wait: float, ready_seconds: float = READY_SECONDS) -> Report:
    """Make it so and prove it; `ready_seconds` is what Prefect may take to answer. Raises the error of the step that failed; running it again goes on from there."""
    built = bundles(platform, name)
    with platform.target.lock(f"{name}.setup", wait):
        for each in built:
            # Not before it is needed: a Vault that is yet to be set up has no store.
            if any(spec.given for spec in each.stack.secrets):
                keep_given(platform.target.store, each.stack, os.environ)
        todo = make_plan(platform, built)
        platform.target.preflight(todo, built)
        if todo.steps:
            platform.say(str(todo))
        platform.target.apply(todo, built)
        changes, notices = platform.target.complete(built), ()  # type: tuple[str, ...], tuple[str, ...]
        for each in built:
            if each.stack.name == "authentik":
                changes += authentik.set_up(platform)
            if each.stack.expose == "when-complete":
                platform.target.expose(each)
        if any(each.stack.name == "prefect" for each in built) and platform.served:
            made, notices = ensure_objects(platform, ready_seconds)
            notices += _notes(platform)
            changes += made + authentik.ensure_prefect(platform)
        if not platform.served:
            return Report(todo, changes, notices, tuple(machine_checks(platform)))
        if not platform.target.combined and name != "prefect":
            # Set up one after another, in order of need: what comes later may not be there yet.
            return Report(todo, changes, notices, tuple(process_checks(platform, name)))
        found = () if todo.steps or changes else check(platform)
        # Red and nothing to change: it may be on its way back (a disk that has room again), so it gets the time a change gets.
        healthy = bool(found) and all(each.ok for each in found)
        return Report(todo, changes, notices, found if healthy else prove(platform))


def _notes(platform: Platform) -> tuple[str, ...]:
    """What was read differently, and what will not happen, told before somebody waits for it."""
    values = platform.settings.values
    url = values["prefect"]["database_url"]
    read = tuple(f"{database_url.KEY}: {note}" for note in database_url.parse(url).notes) if url else ()
    return read + (sleeping.notes(values) if platform.settings.target == "fly" else ())
