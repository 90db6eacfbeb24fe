"""Whether an environment is well: its processes, its disk, and the checks that do what a client does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from prefect_platform.config import prefect_version, sso, tls
from prefect_platform.environment.access import api, held_token, kept_token, tail, token
from prefect_platform.environment.opened import Platform, desired
from prefect_platform.errors import PlatformError
from prefect_platform.provisioning.prefect.heartbeat import is_online
from prefect_platform.targets.protocol import LOW_BYTES, Process, SharesRuntime, Sleeps

from . import certificate
from .check import Check
from .run import CheckSpec, canary_check, wait_for_checks

_CANARY_SECONDS = 120
_CALM_SECONDS = 45


def check(platform: Platform, about: str = "") -> tuple[Check, ...]:
    """What is true now, without a new canary run. Processes first: their logs say more than a failed request.

    `about` is the stack that was asked for: where nothing runs but what the host shares, the environment is well for that alone.
    """
    woken = isinstance(platform.target, Sleeps) and platform.target.wake()
    with ThreadPoolExecutor() as pool:
        # Beside the processes, whose state decides whether the answers say anything.
        answered = pool.submit(_as_client, platform, _CALM_SECONDS if woken else 0)
        running, found = _machine(platform)
        if not any(each.stack == about or _own(platform, each) for each in running):
            nothing = f"environment {platform.settings.env!r} is not running"
            return (Check("processes", False, nothing, 0.0, f"./invoke {platform.main}.setup"),)
        doors = {each.name for each in running if each.stack in ("traefik", "gateway")}
        if any(not each.ok and each.name in {"disk", *doors} for each in found):
            return tuple(found)
        return (*found, *answered.result())


def _own(platform: Platform, process: Process) -> bool:
    """Whether it is the environment's: what a host shares runs on when an environment was removed."""
    stack = platform.stacks.get(process.stack)
    return platform.target.traits.combined or stack is None or stack.scope != "host"


def _as_client(platform: Platform, patience: float) -> list[Check]:
    if not _has_prefect(platform):
        return []
    # Whether the gateway still knows the token's key is a question to Vault, asked only when something is wrong.
    found = wait_for_checks(_spec(platform, held_token(platform) or token(platform)), patience)
    if all(each.ok for each in found) or kept_token(platform):
        return found
    return wait_for_checks(_spec(platform, token(platform)), patience)


def prove(platform: Platform, canary_must_run: bool = False) -> tuple[Check, ...]:
    """After a change: give what was restarted time to settle, then run the canary.

    Without a configured worker, a remote one runs it; if none is online, the check reports that, and fails if it `canary_must_run`.
    """
    if not _has_prefect(platform) or any(each.name == "disk" for each in failing(platform)):
        return tuple(machine_checks(platform))
    spec = _spec(platform, token(platform))
    platform.say("running checks through the public URL")
    settled = wait_for_checks(spec, seconds=_CALM_SECONDS, only=_CALM)
    canary = desired(platform).canary
    if canary is None or not all(each.ok for each in settled):
        return (*machine_checks(platform), *settled)
    if not spec.workers and not _somebody_works(platform, canary.pool):
        nobody = f"skipped: no worker is configured, and no remote worker is online in pool {canary.pool}"
        hint = f'eval "$(./invoke prefect.client-env --token …)"; prefect worker start --pool {canary.pool}; then ./invoke prefect.smoke'
        return (*machine_checks(platform), *settled, Check("canary", not canary_must_run, nobody, 0.0, hint))
    spec = replace(spec, canary=(canary.flow, canary.name))
    platform.say("running the canary flow")
    ran = canary_check(spec, _CANARY_SECONDS, platform.say)
    return (*machine_checks(platform), *settled, ran)


def _somebody_works(platform: Platform, pool: str) -> bool:
    with api(platform) as client:
        return any(is_online(worker) for worker in client.workers(pool))


_CALM = (
    "ping",
    "refuses",
    "ready",
    "version",
    "ui",
    "events",
    "events refuses",
    "services",
    "schedules",
    "workers",
    "sso",
)


def _has_prefect(platform: Platform) -> bool:
    return platform.served and "prefect" in platform.target.established()


def _spec(platform: Platform, token: str) -> CheckSpec:
    workers = platform.settings.values["prefect"]["workers"]
    # Runs of a worker elsewhere say nothing about this machine.
    canary = desired(platform).canary if workers else None
    base = platform.target.where("prefect").base
    return CheckSpec(
        public_url=platform.url,
        token=token,
        version=prefect_version.pinned(platform.settings.root),
        workers=tuple((worker["pool"], worker["name"]) for worker in workers),
        canary=(canary.flow, canary.name) if canary else None,
        slots=sum(each["limit"] for each in workers if each["pool"] == canary.pool) if canary else None,
        services="server" if platform.target.traits.combined else "services",
        ui_path=base,
        api_path=f"{base}/api",
        trust=tls.trust(platform.settings),
        sso_url=sso.public_url(platform.settings) if sso.guards_prefect(platform.settings) else None,
    )


def machine_checks(platform: Platform) -> list[Check]:
    """Processes, and the room they have: on a full disk not even their logs say what is wrong."""
    return _machine(platform)[1]


def _machine(platform: Platform) -> tuple[list[Process], list[Check]]:
    """The processes, and the checks of them and of what they need. Vault is checked in parallel."""
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(_secrets_check, platform)
        running = platform.target.processes()
        found = [_process_check(platform, each) for each in running]
    secrets = asked.result() if running else None
    served = certificate.check(platform.settings, platform.url) if found and platform.served else None
    people = _sign_on_check(platform) if found and secrets and secrets.ok else None
    more = [each for each in (secrets, served, people, _runtime_check(platform, running)) if each]
    return running, [*found, *more, _disk_check(platform)]


def _sign_on_check(platform: Platform) -> Check | None:
    """Where people do not sign in, nothing of it is imported: a twentieth of what prefect.status takes."""
    if not sso.guards_prefect(platform.settings):
        return None
    from . import authentik

    return authentik.check(platform)


def process_checks(platform: Platform, stack: str) -> list[Check]:
    """Those of one stack."""
    return [_process_check(platform, each) for each in platform.target.processes() if each.stack == stack]


def unready(platform: Platform, services: Sequence[str]) -> list[Check]:
    """Of the services (full names) those that do not run, or whose start is not through yet."""
    there = {each.name: each for each in platform.target.processes()}
    found = []
    for name in services:
        if name not in there:
            found.append(Check(name, False, "is gone", 0.0, f"./invoke {name.partition('-')[0]}.setup"))
            continue
        check = _process_check(platform, there[name])
        starting = there[name].state == "STARTING" or there[name].detail.startswith("starting")
        if check.ok and starting:
            stack, service = there[name].stack, there[name].service
            next_command = f"./invoke {stack}.logs --service {service}"
            check = replace(check, ok=False, detail="still starting", hint=next_command)
        found.append(check)
    return [each for each in found if not each.ok]


def as_client(platform: Platform, only: Sequence[str], seconds: float) -> list[Check]:
    """These checks through the public route, asked for at most `seconds` until they are green."""
    if not only or not _has_prefect(platform):
        return []
    return wait_for_checks(_spec(platform, held_token(platform) or token(platform)), seconds, only=only)


def _secrets_check(platform: Platform) -> Check | None:
    """Whether the secrets can be read, if they are kept off this machine."""
    if platform.target.traits.combined:
        return None
    began = time.monotonic()
    try:
        platform.target.store.read("gateway")
    except PlatformError as error:
        why = f"{error.reason}; running services are unaffected; setups and secret changes must wait"
        return Check("secrets", False, why, time.monotonic() - began, error.hint)
    return Check("secrets", True, "Vault is unsealed and accepts our token", time.monotonic() - began)


def _runtime_check(platform: Platform, running: Sequence[Process]) -> Check | None:
    """Whether the programs are those that setup installed, where flows could have replaced them."""
    if not running or not isinstance(platform.target, SharesRuntime):
        return None
    began = time.monotonic()
    changed, seconds = platform.target.tampered(), time.monotonic() - began
    if changed is None:
        return None
    if changed:
        why = f"{changed}: something was installed into the runtime that flows share with the server"
        return Check("runtime", False, why, seconds, "./invoke prefect.setup makes it again")
    return Check("runtime", True, "as it was installed", seconds)


def failing(platform: Platform) -> list[Check]:
    """Those of machine_checks that are red."""
    return [each for each in machine_checks(platform) if not each.ok]


def _disk_check(platform: Platform) -> Check:
    room, place = platform.target.room(), platform.settings.state
    if room >= LOW_BYTES:
        return Check("disk", True, f"{room // 2**20} MiB free", 0.0)
    return Check(
        "disk",
        False,
        f"{place}: {room // 2**20} MiB free, too little for databases and logs",
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
    last = " | ".join(dict.fromkeys(tail(platform, process.name, 5)))
    # What somebody stopped is started again; of anything else the log says why.
    task = "setup" if process.state == "STOPPED" else f"logs --service {process.service}"
    said = f"{process.state}: {process.detail}; last lines: {last or '(none)'}"
    return Check(process.name, False, said, 0.0, f"./invoke {process.stack or 'prefect'}.{task}")
