"""The containers of an environment: their state, logs, and the commands that operators give them."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefect_platform.config import stack as stacks
from prefect_platform.errors import ConfigError, PlatformError, ProgramFailed
from prefect_platform.planning.stop_order import stop_order
from prefect_platform.targets.docker import health
from prefect_platform.targets.protocol import Process

from . import compose_file
from .on_host import Site

_DEPENDS_ON = "com.docker.compose.depends_on"


def found(site: Site) -> list[dict[str, Any]]:
    """Of the environment and of what the host shares."""
    return [*site.host.containers(env=site.env), *site.host.containers(env="host")]


def identity(container: Mapping[str, Any]) -> tuple[str, str]:
    """(stack, service), from its labels."""
    labels = container["Config"]["Labels"]
    return labels["prefect-platform.stack"], labels["prefect-platform.service"]


def service_of(container: Mapping[str, Any]) -> str:
    """The full name of its service."""
    return "-".join(identity(container))


def name_of(container: Mapping[str, Any]) -> str:
    return str(container["Name"]).lstrip("/")


def in_stop_order(site: Site, containers: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Groups to stop one after another: by the needs of their stacks, then by depends_on; a stack's Vault agent last."""
    mine = {service_of(each): each for each in containers}
    by_stack: dict[str, list[str]] = {}
    for full_name, each in mine.items():
        by_stack.setdefault(identity(each)[0], []).append(full_name)
    known = stacks.read_all(site.settings.root) if len(by_stack) > 1 else {}
    needs = {
        name: [each.name for each in stacks.with_needs(known, name)] if name in known else []
        for name in by_stack
    }
    groups: list[list[str]] = []
    for together in stop_order(needs):
        after = {each: _after(mine[each]) for name in together for each in by_stack[name]}
        groups += stop_order(after)
    return [[mine[each] for each in group] for group in groups]


def _after(container: Mapping[str, Any]) -> list[str]:
    """Full names of what a container depends on. Compose's label reads `server:service_started:false,…`."""
    stack, service = identity(container)
    written = container["Config"]["Labels"].get(_DEPENDS_ON, "")
    names = [each.partition(":")[0] for each in written.split(",") if each]
    agent = [] if service == compose_file.AGENT else [compose_file.AGENT]
    return [f"{stack}-{each}" for each in [*names, *agent]]


def processes(site: Site) -> list[Process]:
    """One per container; memory is what the kernel counts for it."""
    ordered = sorted(found(site), key=lambda each: str(each["Name"]))
    used = health.memory(site.host, ordered) if ordered else {}
    return [
        health.done_before(each)
        if health.unfinished(each) and health.settled(ordered, identity(each)[0])
        else health.process(each, used.get(each["State"]["Pid"], 0))
        for each in ordered
    ]


def run_in(site: Site, stack: str, argv: Sequence[str]) -> str:
    """Run a command in the container of a stack that has secrets, with them; returns stdout."""
    there = [each for each in found(site) if identity(each)[0] == stack]
    name = next((name_of(each) for each in there if _has_secrets(each)), None)
    if name is None:
        state = "is not running" if there else "not set up"
        raise PlatformError(
            f"{stack}: {state} in environment {site.env!r}", f"./invoke {stack}.setup --env {site.env}"
        )
    words = ["exec", "-e", "SECRETS_WATCH=", name, "/bin/sh", compose_file.ENTRYPOINT, "python", *argv]
    done = site.host.docker(*words, check=False)
    if done.code:
        said = (done.stderr or done.text).strip() or f"{argv[0]} ended with {done.code}"
        raise ProgramFailed(said, done.code)
    return done.text


def tail(site: Site, service: str, lines: int) -> list[str]:
    done = site.host.docker("logs", "--tail", str(lines), _container(site, service), check=False)
    return [*done.text.splitlines(), *done.stderr.splitlines()][-lines:]


def follow(site: Site, services: Sequence[str]) -> Iterator[tuple[str, str]]:
    """New log lines as (service, line), without end; one reader for each container."""
    lines: queue.Queue[tuple[str, str]] = queue.Queue()
    for service in services:
        words = site.host.docker_words("logs", "--tail", "0", "--follow", _container(site, service))
        process = site.host.runner.start(words, True)
        threading.Thread(target=_read, args=(service, process, lines), daemon=True).start()
    while True:
        yield lines.get()


def _read(service: str, process: subprocess.Popen[bytes], lines: queue.Queue[tuple[str, str]]) -> None:
    assert process.stdout
    for line in process.stdout:
        lines.put((service, line.decode(errors="replace").rstrip("\n")))


def stop(site: Site, services: Sequence[str]) -> None:
    """Stop these services, dependents first; with none named, all of the environment. What the host shares keeps running."""
    mine = [*site.host.containers(env=site.env), *(site.host.containers(env="host") if services else ())]
    wanted = [each for each in mine if not services or service_of(each) in services]
    if not wanted:
        site.say(f"environment {site.env!r} is not running")
    stop_all(site, wanted)


def stop_all(site: Site, containers: Sequence[Mapping[str, Any]]) -> None:
    """Stop containers, dependents first."""
    for group in in_stop_order(site, containers):
        site.say(f"stopping {', '.join(sorted(map(service_of, group)))}")
        site.host.docker("stop", *sorted(map(name_of, group)), seconds=_patience(group))


def restart(site: Site, services: Sequence[str]) -> None:
    """Restart services one after another, dependents first."""
    wanted = [each for each in found(site) if service_of(each) in services]
    for each in (one for group in in_stop_order(site, wanted) for one in group):
        site.say(f"restarting {service_of(each)}")
        site.host.docker("restart", name_of(each), seconds=_patience([each]))


def _patience(containers: Sequence[Mapping[str, Any]]) -> float:
    """Seconds that stopping them together may take: a worker's grace period lets its runs finish."""
    return 60 + max(each["Config"].get("StopTimeout") or 10 for each in containers)


def execute(site: Site, service: str, words: Sequence[str]) -> int:
    """A command in a container, with the operator's terminal; returns its exit code."""
    tty = ["-it"] if os.isatty(0) and os.isatty(1) else ["-i"]
    return site.host.runner.stream(site.host.docker_words("exec", *tty, _container(site, service), *words))


def _container(site: Site, service: str) -> str:
    there = {service_of(each): name_of(each) for each in found(site)}
    if service not in there:
        raise ConfigError(f"{service}: no such container; containers: {', '.join(sorted(there)) or 'none'}")
    return there[service]


def _has_secrets(container: Mapping[str, Any]) -> bool:
    config = container["Config"]
    running = container["State"]["Status"] == "running"
    return running and any(re.match(r"SECRETS_FILE=", each) for each in config["Env"] or ())
