"""Brings a single machine to its configuration: the runtime, files, and the processes under supervisord."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from prefect_platform.config.stack import Stack
from prefect_platform.errors import ApplyError
from prefect_platform.files import make_private
from prefect_platform.planning.bundle import Bundle, Service
from prefect_platform.planning.diff import Plan, wanted_files
from prefect_platform.targets.combined import sqlite
from prefect_platform.venvs import make

from . import rendered, routes
from .installation import Installation
from .supervisord import UMASK, end, lost_supervisors, orphans


def apply(on: Installation, plan: Plan, bundles: Sequence[Bundle]) -> None:
    """Do the steps. Interrupted anywhere, the next observe sees what is left to do."""
    rendered.create_folders(on, bundles)
    _install(on, plan, bundles)
    for bundle in bundles:
        on.store.ensure(bundle.stack)
    _check_routes(on, plan, bundles)
    services = [service for bundle in bundles for service in bundle.services]
    versions = {bundle.stack.name: on.store.version(bundle.stack) for bundle in bundles}
    _stop_changed(on, plan, services)
    rendered.write(on, plan, bundles)
    _start(on, plan, services, versions)


def with_database(bundles: Sequence[Bundle]) -> list[Stack]:
    """The stacks whose SQLite database begins as a copy of the template."""
    return [bundle.stack for bundle in bundles if bundle.stack.sqlite]


def _install(on: Installation, plan: Plan, bundles: Sequence[Bundle]) -> None:
    if "runtime" in plan.of("install"):
        on.say("installing the runtime (Prefect, Traefik, supervisord): up to a minute, once")
        make_private(on.venv.parent)
        make.ensure(on.venv, on.lock_file, on.say, sealed=True)
    for stack in with_database(bundles):
        if on.template.exists():
            continue
        on.say("preparing an empty Prefect database: a few seconds, once")
        done = launch(on, stack, "make-template", str(on.template))
        if done.returncode:
            raise ApplyError(
                f"{sqlite.spec(stack).program} make-template: {done.stderr.strip()[-800:]}",
                "run the command again",
            )


def launch(on: Installation, stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the program for the stack's database, from the stack's folder: it may not be rendered yet."""
    file = stack.folder / sqlite.spec(stack).program
    env = {"PATH": os.environ.get("PATH", ""), "HOME": str(on.venv), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(on.python), str(file), *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, umask=UMASK)


def _check_routes(on: Installation, plan: Plan, bundles: Sequence[Bundle]) -> None:
    if any(subject.startswith("routes/") for subject in plan.of("write")):
        wanted = {
            name: content for name, content in wanted_files(bundles).items() if name.startswith("routes/")
        }
        plugins = on.settings.root / "stacks" / on.settings.roles.proxy
        routes.check(on.traefik, wanted, plugins, on.state / "run")


def _stop_changed(on: Installation, plan: Plan, services: Sequence[Service]) -> None:
    """Before files change: a process must not read half of the old and half of the new. Workers first, they need the server."""
    end_orphans(on, [service.facts() for service in services])
    seconds = {service.full_name: service.stop_seconds for service in services}
    order = [service.full_name for service in reversed(services)]
    stopping = [*plan.of("stop"), *sorted(plan.of("restart"), key=order.index)]
    for name in stopping:
        on.say(f"stopping {name}")
        on.record(name, None)
        on.supervisor.stop(name, on.say, seconds.get(name, 60))


def end_orphans(on: Installation, facts: Sequence[Mapping[str, Any]]) -> None:
    """Stop processes without a supervisord, before they collide with what is started or deleted next."""
    patience = max((each["stop_seconds"] for each in facts), default=60)
    end(lost_supervisors(on.supervisor.config, on.supervisor.pid()), patience)
    known = {info["pid"] for info in on.supervisor.processes()} - {0}
    lost = orphans(on.state, known, [each["argv"] for each in facts])
    if lost:
        on.say(f"stopping {len(lost)} processes left by a dead supervisord")
        end(lost, patience)


def _start(on: Installation, plan: Plan, services: Sequence[Service], versions: Mapping[str, str]) -> None:
    declared = {service.full_name for service in services}
    starting = plan.of("start", "restart")
    fresh = not on.supervisor.alive()
    if fresh:
        on.supervisor.start()
    else:
        for name in plan.of("stop"):
            on.supervisor.replace(name, wanted=False)
    for service in services:
        name = service.full_name
        if name in starting or fresh:
            if not fresh:
                on.say(f"starting {name}")
                on.supervisor.replace(name, wanted=name in declared)
            record = {"facts": service.facts(), "secret_version": versions[service.stack]}
            on.record(name, {**record, "since": time.time()})
