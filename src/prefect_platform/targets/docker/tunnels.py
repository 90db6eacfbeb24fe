"""ssh forwards to containers that publish no port: opened when first needed, closed when the process ends."""

from __future__ import annotations

import atexit
import contextlib

from prefect_platform.errors import PreflightError

from .host import Host


class Tunnels:
    def __init__(self, host: Host) -> None:
        self.host = host
        self._open: dict[tuple[str, int], tuple[str, int]] = {}

    def to(self, container: str, network: str, port: int, next_command: str) -> str:
        """A URL of this machine that leads to a container's port. Raises PreflightError, with what to do next, when it does not run."""
        found = self.host.engine.container(container) or {"NetworkSettings": {"Networks": {}}}
        there = found["NetworkSettings"]["Networks"].get(network, {}).get("IPAddress", "")
        if not there:
            raise PreflightError(f"{self.host.runner.place}: {container} is not running", next_command)
        if (there, port) not in self._open:
            stack = contextlib.ExitStack()
            atexit.register(stack.close)
            self._open[there, port] = stack.enter_context(self.host.runner.forward(there, port))
        here, forwarded = self._open[there, port]
        return f"http://{here}:{forwarded}"
