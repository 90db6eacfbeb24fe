"""The use cases. setup = settings → stacks → bundles → plan → target → objects → checks; plan = the same, stopped before the target."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from prefect_platform.checks.health import check, failing, machine_checks, prove
from prefect_platform.checks.run import Check
from prefect_platform.config import database_url, images, sso, stack
from prefect_platform.environment import authentik
from prefect_platform.environment.access import api, forget_token
from prefect_platform.environment.platform import Platform, desired
from prefect_platform.errors import CheckFailed, ConfigError, PlatformError, PreflightError
from prefect_platform.planning import bundle, diff
from prefect_platform.provisioning.prefect import objects
from prefect_platform.provisioning.prefect.api import ApiError, PrefectApi
from prefect_platform.secretstore.store import generate, keep_given
from prefect_platform.targets.fly import sleeping

_READY_SECONDS = 120
_RESTART_SECONDS = 12
"""From the rendered file to a process that is about to end: its entrypoint looks every five seconds."""
_SPARE = 8
"""Connections for what is no pool: three are PostgreSQL's reserve, the rest health checks, dumps and an operator's psql."""


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


def bundles(platform: Platform, name: str) -> list[bundle.Bundle]:
    """What is set up together. A combined target runs all under one supervisor, so what is set up stays included, and needs come
    along; elsewhere a stack stands for itself, and its needs must be there. Raises ConfigError, PreflightError.
    """
    target = platform.target
    chosen: list[stack.Stack] = []
    if not target.combined:
        chosen = [stack.with_needs(platform.stacks, name)[-1]]
        _require_needs(platform, name)
        _check_connections(platform, chosen[0])
        if name == "authentik":
            sso.public_url(platform.settings)
        if name == "prefect" and sso.wanted(platform.settings):
            # Who may come in is the gateway's to say.
            chosen = [platform.stacks["gateway"], *chosen]
    for wanted in [*target.established(), name] if target.combined else ():
        chosen += [each for each in stack.with_needs(platform.stacks, wanted) if each not in chosen]
    return target.gather([_build(platform, each) for each in chosen])


def _build(platform: Platform, chosen: stack.Stack) -> bundle.Bundle:
    where = platform.target.where(chosen.name, chosen.scope)
    return platform.target.finish(bundle.build(chosen, platform.settings, where))


def pin_images(platform: Platform) -> dict[str, str]:
    """Record what the tags of all images mean now; returns image → digest of those that come from a registry. Raises ConfigError."""
    built = [_build(platform, platform.stacks[name]) for name in order(platform, "prefect")]
    used = {images.tag(str(each.spec["image"])) for one in built for each in one.services if each.spec}
    if not used:
        raise ConfigError(f"target {platform.settings.target} runs no images: there is nothing to pin")
    digests = platform.target.digests(sorted(used))
    kept = {
        image: digest for image, digest in images.read(platform.settings.root).items() if image not in used
    }
    images.write(platform.settings.root, kept | digests)
    for image in sorted(used - set(digests)):
        platform.say(
            f"note: {image} was built on the host, not pulled: it has no digest and stays pinned by its tag"
        )
    return digests


def order(platform: Platform, name: str) -> list[str]:
    """The stacks to set up one after another for `name`: a combined target does all of them at once."""
    if platform.target.combined:
        return [name]
    return [each.name for each in stack.with_needs(platform.stacks, name)]


def missing_needs(platform: Platform, name: str) -> list[str]:
    """The stacks that must be there before `name` and are not, in order; a combined target brings them along."""
    if platform.target.combined:
        return []
    there = platform.target.established()
    return [each for each in order(platform, name)[:-1] if each not in there]


def _require_needs(platform: Platform, name: str) -> None:
    env = platform.settings.env
    for need in missing_needs(platform, name):
        raise PreflightError(
            f"{name} needs {need}, which is not set up in environment {env!r}",
            f"./invoke {need}.setup --env {env}, or all in order: ./invoke {name}.setup --with-needs --env {env}",
        )


def _check_connections(platform: Platform, chosen: stack.Stack) -> None:
    """All stacks of an environment share one PostgreSQL. Raises ConfigError if their pools together are larger than what it takes."""
    if platform.target.combined or not (chosen.databases or chosen.name == "postgres"):
        return
    wanted = {}
    unused = {"authentik"} - set(order(platform, "prefect")) - {chosen.name}
    for each in (one for one in platform.stacks.values() if one.name not in unused):
        where = platform.target.where(each.name, each.scope)
        services = bundle.build(each, platform.settings, where).compose["services"].values()
        wanted[each.name] = sum((spec or {}).get("x-connections", 0) for spec in services)
    there, needed = platform.settings.values["postgres"]["max_connections"], sum(wanted.values()) + _SPARE
    if needed > there:
        told = ", ".join(f"{name} {number}" for name, number in wanted.items() if number)
        raise ConfigError(
            f"platform.postgres.max_connections: {there}, but the pools of all processes take {needed} ({told}, {_SPARE} to look in)",
            f"set it to {needed} or more, or fewer platform.prefect.replicas",
        )


def rotate_secret(platform: Platform, name: str, secret: str) -> tuple[Check, ...]:
    """Give a generated password another value, wait until it has reached its processes, and prove that all works with it.

    Raises ConfigError for what is no such secret.
    """
    mine = [each.name for each in platform.stacks[name].secrets if each.generate == "password"]
    if platform.target.combined or secret not in mine:
        raise ConfigError(
            f"{name}: {secret!r} is not a password that this task changes; there are: {', '.join(mine) or 'none'}",
            "signing keys: ./invoke gateway.rotate-keys; what encrypts data keeps its value",
        )
    platform.target.store.write(name, {secret: generate("password")})
    platform.say(f"{secret} has a new value; agents fetch it and processes restart within a minute")
    time.sleep(platform.settings.values["vault"]["render_interval"] + _RESTART_SECONDS)
    return prove(platform)


def make_plan(platform: Platform, built: Sequence[bundle.Bundle]) -> diff.Plan:
    """The plan as of now; touches nothing."""
    stacks = [each.stack for each in built]
    observed = platform.target.observe(stacks)
    return diff.make(built, observed, platform.target.runtime, [each.name for each in stacks])


def setup(platform: Platform, name: str, wait: float, ready_seconds: float = _READY_SECONDS) -> Report:
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
            made, notices = _ensure_objects(platform, ready_seconds)
            notices += _notes(platform)
            changes += made + authentik.ensure_prefect(platform)
        if not platform.served:
            return Report(todo, changes, notices, tuple(machine_checks(platform)))
        if not platform.target.combined and name != "prefect":
            # Set up one after another, in order of need: what comes later may not be there yet.
            own = [each for each in machine_checks(platform) if each.name.startswith(f"{name}-")]
            return Report(todo, changes, notices, tuple(own))
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


def _ensure_objects(platform: Platform, seconds: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
    wanted = desired(platform)
    with api(platform) as client:
        known = _wait_ready(platform, client, seconds)
    if not known:
        platform.say("the gateway does not know the platform's own token: making another")
        forget_token(platform)
    with api(platform) as client:
        observed = objects.observe(client, wanted)
        changes = objects.plan_objects(wanted, observed)
        for change in changes:
            platform.say(str(change))
        objects.apply_changes(client, changes)
    return tuple(str(change) for change in changes), objects.notices(wanted, observed)


def object_changes(platform: Platform) -> tuple[str, ...] | None:
    """What setup would change inside Prefect; None when Prefect does not answer."""
    try:
        with api(platform) as client:
            wanted = desired(platform)
            return tuple(
                str(change) for change in objects.plan_objects(wanted, objects.observe(client, wanted))
            )
    except ConfigError:
        raise
    except PlatformError:
        return None


def _wait_ready(platform: Platform, client: PrefectApi, seconds: float) -> bool:
    """Until Prefect answers; False when the gateway does, and refuses our token. Raises CheckFailed."""
    began, told = time.monotonic(), False
    while True:
        try:
            client.ready()
            return True
        except PlatformError as error:
            if isinstance(error, ApiError) and error.status == 401:
                return False
            gone = [
                line
                for line in failing(platform)
                if line.name == "disk" or line.detail.startswith(("FATAL", "FAILING"))
            ]
            if gone or time.monotonic() - began > seconds:
                cause = "; ".join(f"{line.name}: {line.detail}" for line in gone) or error.reason
                hint = gone[-1].hint if gone else "./invoke prefect.logs --service server"
                raise CheckFailed(f"Prefect does not become ready: {cause}", hint) from None
        if not told and time.monotonic() - began > 2:
            told = True
            platform.say("waiting for Prefect to become ready")
        time.sleep(0.2)
