"""Whether what was restarted does its work again: its process, then what only it can answer, through the public route."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial

from prefect_platform.environment.access import api
from prefect_platform.environment.opened import Platform
from prefect_platform.errors import CheckFailed
from prefect_platform.provisioning.prefect.heartbeat import seconds_since

from .check import Check
from .health import as_client, unready
from .run import outcome

_PAUSE = 1.0
_ANSWERS = {"traefik": ("ping", "refuses"), "gateway": ("refuses",)}
"""Checks that nothing but the stack's services decides."""


Service = tuple[str, str]
"""Stack and service."""


def wait(platform: Platform, services: Sequence[str], seconds: float) -> list[Check]:
    """What is not ready after at most `seconds`; empty as soon as all of it is. `services` are full names, restarted just now."""
    began = time.time()
    mine = {(each.stack, each.service) for each in platform.target.processes() if each.name in services}
    rounds: list[Callable[[float], list[Check]]] = [
        lambda _: unready(platform, services),
        lambda left: as_client(platform, _answers(mine), left),
        lambda _: _workers(platform, mine, began),
    ]
    for each in rounds:
        while red := [check for check in each(max(0.0, began + seconds - time.time())) if not check.ok]:
            if time.time() > began + seconds or any(_given_up(check) for check in red):
                return red
            time.sleep(_PAUSE)
    return []


def _given_up(check: Check) -> bool:
    return check.detail.startswith(("FATAL", "FAILING"))


def _answers(services: Collection[Service]) -> list[str]:
    found = {name for stack, _ in services for name in _ANSWERS.get(stack, ())}
    if any(stack == "prefect" and service.startswith("server") for stack, service in services):
        found |= {"ready", "events"}
    return sorted(found)


def _workers(platform: Platform, services: Collection[Service], since: float) -> list[Check]:
    """Of each restarted worker: has it reported to its pool after the restart? The heartbeat of before looks alive for a minute and a half."""
    workers = platform.settings.values["prefect"]["workers"]
    # Named as stacks/prefect/compose.yml.j2 does.
    names = ["worker" + (f"-{each['name']}" if number else "") for number, each in enumerate(workers)]
    return [
        outcome(f"prefect-{name}", partial(_reported, platform, worker["pool"], worker["name"], since))
        for name, worker in zip(names, workers, strict=True)
        if ("prefect", name) in services
    ]


def _reported(platform: Platform, pool: str, name: str, since: float) -> str:
    with api(platform) as client:
        found = next((each for each in client.workers(pool) if each["name"] == name), None)
    age = seconds_since(found["last_heartbeat_time"]) if found else None
    if age is None or time.time() - age < since:
        raise CheckFailed(
            f"worker {name} has not reported to pool {pool} since", "./invoke prefect.logs --service worker"
        )
    return f"reported to pool {pool} {age:.0f} s ago"
