"""Whether the host's ports that services publish are free, checked before anything changes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from prefect_platform.config.rules import port_keys
from prefect_platform.config.settings import Settings
from prefect_platform.errors import PreflightError
from prefect_platform.planning.bundle import Service

from .host import Host

# Listening sockets; ss shows the names of processes to root only.
_LISTENERS = 'ss -Hltnp "sport = :$1" 2>/dev/null || true'


def check(host: Host, services: Sequence[Service], settings: Settings) -> None:
    """Raises PreflightError for a port that another process has, naming it and the keys that choose another."""
    for service in services:
        for published in service.spec.get("ports", ()):
            # [ADDRESS:]PORT:PORT in the container; without an address it is published on all.
            *address, port, _ = str(published).rsplit(":", 2)
            if port in _own(host, str(service.spec["container_name"])):
                continue
            for line in host.sh(_LISTENERS, port).text.splitlines():
                if _overlap("".join(address) or "*", line.split()[3].rpartition(":")[0]):
                    raise PreflightError(
                        f"{host.runner.place}: port {port}, which {service.full_name} publishes, is taken by {_holder(line)}",
                        f"stop that process (sudo ss -ltnp 'sport = :{port}' shows it), or choose another port: {port_keys(settings, service.stack, int(port))}",
                    )


def _own(host: Host, container: str) -> set[str]:
    """Ports that the container has already: its successor takes them over."""
    found = host.engine.container(container)
    bound = (found and found["NetworkSettings"]["Ports"]) or {}
    return {each["HostPort"] for ports in bound.values() for each in ports or ()}


def _overlap(wanted: str, held: str) -> bool:
    anywhere = ("0.0.0.0", "*", "[::]", "::")
    return wanted in anywhere or held in anywhere or wanted == held


def _holder(line: str) -> str:
    named = re.search(r'users:\(\("([^"]+)",pid=(\d+)', line)
    return f"{named[1]} (pid {named[2]})" if named else "another process"
