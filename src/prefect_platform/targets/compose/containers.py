"""The containers of an environment: what they do now, and what an operator does with them."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefect_platform.errors import ConfigError, PlatformError
from prefect_platform.targets.docker import health
from prefect_platform.targets.protocol import Process

from . import compose_file
from .on_host import Site


def found(site: Site) -> list[dict[str, Any]]:
    """Of the environment and of what the host shares."""
    return [*site.host.containers(env=site.env), *site.host.containers(env="host")]


def names(site: Site) -> list[str]:
    return sorted(service_of(each) for each in found(site))


def service_of(container: Mapping[str, Any]) -> str:
    labels = container["Config"]["Labels"]
    return f"{labels['prefect-platform.stack']}-{labels['prefect-platform.service']}"


def processes(site: Site) -> list[Process]:
    """One per container; memory is what the kernel counts for it."""
    ordered = sorted(found(site), key=lambda each: str(each["Name"]))
    used = health.memory(site.host, ordered) if ordered else {}
    return [health.process(each, used.get(each["State"]["Pid"], 0)) for each in ordered]


def run_in(site: Site, stack: str, argv: Sequence[str]) -> str:
    """Run a command in the container of a stack that has secrets, with them; returns stdout."""
    with_secrets = (each["Name"].lstrip("/") for each in found(site) if _has_secrets(each, stack))
    name = next(with_secrets, None)
    if name is None:
        raise PlatformError(
            f"{stack}: not set up in environment {site.env!r}", f"./invoke {stack}.setup --env {site.env}"
        )
    words = ["exec", "-e", "SECRETS_WATCH=", name, "/bin/sh", compose_file.ENTRYPOINT, "python", *argv]
    done = site.host.docker(*words, check=False)
    if done.code:
        raise PlatformError((done.stderr or done.text).strip() or f"{argv[0]} ended with {done.code}")
    return done.text


def tail(site: Site, service: str, lines: int) -> list[str]:
    done = site.host.docker("logs", "--tail", str(lines), _container(site, service), check=False)
    return [*done.text.splitlines(), *done.stderr.splitlines()][-lines:]


def follow(site: Site, services: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is written from now on; one reader for each container."""
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
    """Stop these services, workers first; with none named, all of the environment. What the host shares goes on."""
    mine = [service_of(each) for each in site.host.containers(env=site.env)]
    wanted = [name for name in mine if not services or name in services]
    for name in sorted(wanted, key=lambda name: ("worker" not in name, "agent" in name, "postgres" in name)):
        site.say(f"stopping {name}")
        site.host.docker("stop", _container(site, name), seconds=1000)


def restart(site: Site, services: Sequence[str]) -> None:
    for name in sorted(services, key=lambda name: "worker" not in name):
        site.say(f"restarting {name}")
        site.host.docker("restart", _container(site, name), seconds=1000)


def execute(site: Site, service: str, words: Sequence[str]) -> int:
    """A command in a container, with the operator's terminal; returns its exit code."""
    tty = ["-it"] if os.isatty(0) and os.isatty(1) else ["-i"]
    return site.host.runner.stream(site.host.docker_words("exec", *tty, _container(site, service), *words))


def _container(site: Site, service: str) -> str:
    for each in found(site):
        if service == service_of(each):
            return str(each["Name"].lstrip("/"))
    raise ConfigError(f"{service}: no such container; there are: {', '.join(names(site)) or 'none'}")


def _has_secrets(container: Mapping[str, Any], stack: str) -> bool:
    config = container["Config"]
    ours = config["Labels"].get("prefect-platform.stack") == stack
    running = container["State"]["Status"] == "running"
    return ours and running and any(re.match(r"SECRETS_FILE=", each) for each in config["Env"] or ())
