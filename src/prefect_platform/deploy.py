"""The use cases. setup = settings → stacks → bundles → plan → target → objects → checks; plan = the same, stopped before the target."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import bundle, objects, plan, settings, stack
from .checks import Check, CheckSpec, canary_check, run_checks, wait_for_checks
from .errors import CheckFailed, ConfigError, PlatformError, PreflightError
from .objects_desired import Canary, Desired, Zombies, desired_objects
from .prefect_api import PrefectApi
from .secretstore import FileStore
from .targets import LOW_BYTES, Process, Say, Target, open_target

_RESERVED = {"prefect", "metrics"}
_OWN_PATHS = {"prefect", "auth", "ping", "metrics", "verify"}
_TOKEN_DAYS = 90
_RENEW_SECONDS = 30 * 86400
_READY_SECONDS = 120
_CANARY_SECONDS = 120
_CALM_SECONDS = 45


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


@dataclass(frozen=True)
class Report:
    """What a setup did and what the checks found. `changes` are the objects in Prefect that were created or updated."""

    plan: plan.Plan
    changes: tuple[str, ...]
    notices: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        return all(check.ok for check in self.checks)


def open_platform(
    root: Path, raw: Mapping[str, Any], env: str, environ: Mapping[str, str], say: Say
) -> Platform:
    """Read and validate everything that is declared. Raises ConfigError; nothing is touched."""
    stacks = stack.read_all(root)
    schema = settings.platform_schema({each.section: dict(each.settings) for each in stacks.values()})
    chosen = settings.load(root, raw, schema, env, environ)
    _cross_check(chosen)
    return Platform(chosen, stack.for_target(stacks, chosen.target), open_target(chosen, say), say)


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
    _desired(chosen, None)


def bundles(platform: Platform, name: str) -> list[bundle.Bundle]:
    """What is set up together. A combined target runs all under one supervisor, so what is set up stays included, and needs come
    along; elsewhere a stack stands for itself, and its needs must be there. Raises ConfigError, PreflightError.
    """
    target, chosen = platform.target, []  # type: Target, list[stack.Stack]
    if not target.combined:
        chosen = [stack.with_needs(platform.stacks, name)[-1]]
        _require_needs(platform, name)
    for wanted in [*target.established(), name] if target.combined else ():
        chosen += [each for each in stack.with_needs(platform.stacks, wanted) if each not in chosen]
    return [
        target.finish(bundle.build(each, platform.settings, target.where(each.name, each.scope)))
        for each in chosen
    ]


def order(platform: Platform, name: str) -> list[str]:
    """The stacks to set up one after another for `name`: a combined target does all of them at once."""
    if platform.target.combined:
        return [name]
    return [each.name for each in stack.with_needs(platform.stacks, name)]


def _require_needs(platform: Platform, name: str) -> None:
    there = platform.target.established()
    env = platform.settings.env
    for need in stack.with_needs(platform.stacks, name)[:-1]:
        if need.name not in there:
            raise PreflightError(
                f"{name} needs {need.name}, which is not set up in environment {env!r}",
                f"./invoke {need.name}.setup --env {env}, or all in order: ./invoke platform.setup --env {env}",
            )


def make_plan(platform: Platform, built: Sequence[bundle.Bundle]) -> plan.Plan:
    """The plan as of now; touches nothing."""
    stacks = [each.stack for each in built]
    observed = platform.target.observe(stacks)
    return plan.make(built, observed, platform.target.runtime, [each.name for each in stacks])


def setup(platform: Platform, name: str, wait: float) -> Report:
    """Make it so and prove it. Raises the error of the step that failed; running it again goes on from there."""
    built = bundles(platform, name)
    with platform.target.lock(f"{name}.setup", wait):
        todo = make_plan(platform, built)
        platform.target.preflight(todo, built)
        if todo.steps:
            platform.say(str(todo))
        platform.target.apply(todo, built)
        changes, notices = platform.target.complete(built), ()  # type: tuple[str, ...], tuple[str, ...]
        if any(each.stack.name == "prefect" for each in built):
            made, notices = _ensure_objects(platform)
            changes += made
        if not platform.target.combined and name != "prefect":
            # Set up one after another, in order of need: what comes later may not be there yet.
            own = [each for each in _machine_checks(platform) if each.name.startswith(f"{name}-")]
            return Report(todo, changes, notices, tuple(own))
        found = () if todo.steps or changes else check(platform)
        # Red and nothing to change: it may be on its way back (a disk that has room again), so it gets the time a change gets.
        healthy = bool(found) and all(each.ok for each in found)
        return Report(todo, changes, notices, found if healthy else prove(platform))


def check(platform: Platform) -> tuple[Check, ...]:
    """What is true now, without a new canary run. Processes first: their logs say more than a failed request."""
    found = _machine_checks(platform)
    if not platform.target.processes():
        nothing = f"environment {platform.settings.env!r} is not running"
        return (Check("processes", False, nothing, 0.0, "./invoke prefect.setup"),)
    if not _has_prefect(platform):
        return tuple(found)
    if any(not each.ok and each.name.startswith(("traefik-", "gateway-", "disk")) for each in found):
        return tuple(found)
    return (*found, *run_checks(_spec(platform)))


def prove(platform: Platform) -> tuple[Check, ...]:
    """After a change: give what was restarted time to settle, then run the canary."""
    if not _has_prefect(platform) or any(each.name == "disk" for each in _bad(platform)):
        return tuple(_machine_checks(platform))
    spec = _spec(platform)
    platform.say("checking, as a client would")
    settled = wait_for_checks(spec, seconds=_CALM_SECONDS, only=_CALM)
    if spec.canary is None or not all(each.ok for each in settled):
        return (*_machine_checks(platform), *settled)
    platform.say("running the canary flow")
    ran = canary_check(spec, _CANARY_SECONDS, platform.say)
    return (*_machine_checks(platform), *settled, ran)


_CALM = ("ping", "refuses", "ready", "version", "ui", "events", "events refuses", "services", "workers")


def _has_prefect(platform: Platform) -> bool:
    return "prefect" in platform.target.established()


def _spec(platform: Platform) -> CheckSpec:
    workers = platform.settings.values["prefect"]["workers"]
    canary = desired(platform).canary
    base = platform.target.where("prefect").base
    return CheckSpec(
        public_url=platform.url,
        token=token(platform),
        version=_prefect_version(platform.settings.root),
        workers=tuple((worker["pool"], worker["name"]) for worker in workers),
        canary=(canary.flow, canary.name) if canary else None,
        ui_path=base,
        api_path=f"{base}/api",
    )


def _prefect_version(root: Path) -> str:
    """The version that the runtime's lock pins."""
    lock = (root / "requirements" / "runtime.txt").read_text()
    return next(line.split("==")[1].split()[0] for line in lock.splitlines() if line.startswith("prefect=="))


def token(platform: Platform) -> str:
    """The platform's own token for its checks: made once, renewed before it ends, kept like a secret."""
    store = FileStore(platform.settings.state / "secrets")
    held = store.read("operator").get("CHECK_TOKEN")
    if (
        held
        and _part(held.value, 0).get("kid") in _known_keys(platform)
        and _part(held.value, 1).get("exp", 0) - time.time() > _RENEW_SECONDS
    ):
        return held.value
    words = ["create-token", "--project", "platform", "--service", "checks", "--scope", "prefect metrics"]
    text = gateway(
        platform, [*words, "--description", "the platform's own checks", "--expires", f"{_TOKEN_DAYS}d"]
    ).strip()
    store.write("operator", {"CHECK_TOKEN": text})
    return text


def _known_keys(platform: Platform) -> set[str]:
    keys = platform.target.store.read("gateway").get("GATEWAY_SIGNING_KEYS")
    return _key_ids(keys.value) if keys else set()


def _key_ids(keys: str) -> set[str]:
    try:
        return {key["kid"] for key in json.loads(keys)}
    except (ValueError, TypeError, KeyError):
        return set()  # what is wrong with the keys, the gateway says: it has to read them


def gateway(platform: Platform, words: Sequence[str]) -> str:
    """Run the gateway's own command where the gateway runs; returns what it printed."""
    return platform.target.run_in("gateway", ["-m", "prefect_platform.gateway", *words])


def api(platform: Platform) -> PrefectApi:
    """Prefect's API through the public route, as any client reaches it."""
    return PrefectApi(f"{platform.url}{platform.target.where('prefect').base}/api", token(platform))


def desired(platform: Platform) -> Desired:
    """The objects that the settings declare in Prefect."""
    return _desired(platform.settings, platform.target.where("prefect").bundle)


def _desired(chosen: settings.Settings, folder: str | None) -> Desired:
    section = chosen.values["prefect"]
    beat = section["heartbeat_seconds"]
    workers = section["workers"]
    canary = Canary(workers[0]["pool"], folder, "canary.py:platform_canary") if folder and workers else None
    return desired_objects(section, Zombies(beat, max(90, 3 * beat)), canary)


def _ensure_objects(platform: Platform) -> tuple[tuple[str, ...], tuple[str, ...]]:
    wanted = desired(platform)
    with api(platform) as client:
        _wait_ready(platform, client)
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


def _wait_ready(platform: Platform, client: PrefectApi) -> None:
    began, told = time.monotonic(), False
    while True:
        try:
            return client.ready()
        except PlatformError as error:
            gone = [
                line
                for line in _bad(platform)
                if line.name == "disk" or line.detail.startswith(("FATAL", "FAILING"))
            ]
            if gone or time.monotonic() - began > _READY_SECONDS:
                cause = "; ".join(f"{line.name}: {line.detail}" for line in gone) or error.reason
                hint = gone[-1].hint if gone else "./invoke prefect.logs --service server"
                raise CheckFailed(f"Prefect does not become ready: {cause}", hint) from None
        if not told and time.monotonic() - began > 2:
            told = True
            platform.say("waiting for Prefect to become ready")
        time.sleep(0.2)


def _machine_checks(platform: Platform) -> list[Check]:
    """Processes, and the room they have: on a full disk not even their logs say what is wrong."""
    return [*(_process_check(platform, each) for each in platform.target.processes()), _disk_check(platform)]


def _bad(platform: Platform) -> list[Check]:
    return [each for each in _machine_checks(platform) if not each.ok]


def _disk_check(platform: Platform) -> Check:
    room, place = platform.target.room(), platform.settings.state
    if room >= LOW_BYTES:
        return Check("disk", True, f"{room // 2**20} MiB free", 0.0)
    return Check(
        "disk",
        False,
        f"{place}: {room // 2**20} MiB free, databases and logs cannot be written",
        0.0,
        "free disk space, then ./invoke prefect.setup",
    )


def _process_check(platform: Platform, process: Process) -> Check:
    if process.state in ("RUNNING", "DONE") or (process.state == "STARTING" and process.pid):
        up = f"pid {process.pid}, up {process.seconds} s, {process.memory // 2**20} MiB"
        shown = [up] if process.state != "DONE" else ["done"]
        return Check(
            process.name, True, ", ".join([*shown, *([process.detail] if process.detail else [])]), 0.0, ""
        )
    last = " | ".join(tail(platform, process.name, 5))
    return Check(
        process.name,
        False,
        f"{process.state}: {process.detail}; last lines: {last or '(none)'}",
        0.0,
        f"./invoke prefect.logs --service {process.name}",
    )


def tail(platform: Platform, service: str, lines: int) -> list[str]:
    """The last lines of a service's log, secrets replaced."""
    hide = redactor(platform)
    return [hide(line) for line in platform.target.tail(service, lines)]


def redactor(platform: Platform) -> Callable[[str], str]:
    """Takes every known secret's value out of a text; shows nothing while it cannot be known what they are."""
    try:
        values = secret_values(platform)
    except PlatformError as error:
        reason = error.reason
        return lambda text: f"(not shown, as the secrets to hide in it cannot be read: {reason})"

    def hide(text: str) -> str:
        for value in values:
            text = text.replace(value, "********")
        return text

    return hide


def secret_values(platform: Platform) -> list[str]:
    """Every value that must not be shown, longest first."""
    local = FileStore(platform.settings.state / "secrets")
    held = [
        local.read("operator"),
        *(platform.target.store.read(each.name) for each in platform.stacks.values() if each.secrets),
    ]
    return sorted({secret.value for each in held for secret in each.values()}, key=len, reverse=True)


def _part(token: str, number: int) -> dict[str, Any]:
    """Header (0) or claims (1) of a token, unverified: they decide about renewal only."""
    try:
        part = token.split(".")[number]
        return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))
    except (IndexError, ValueError, TypeError):
        return {}
