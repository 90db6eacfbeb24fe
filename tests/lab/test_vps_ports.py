"""What somebody on another machine reaches of the host: every port that its engine has opened is tried from a network namespace of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from .conftest import call
from .vps import Vps

pytestmark = pytest.mark.timeout(600)

HERE, THERE = "198.18.77.1", "198.18.77.2"
"""Of the block for benchmarks (RFC 2544): nobody's."""
SCAN = """
import asyncio, sys
async def opened(port, few):
    async with few:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(sys.argv[1], port), 3)
        except (OSError, TimeoutError):
            return None
        writer.close()
        return port
async def main():
    few = asyncio.Semaphore(400)
    found = await asyncio.gather(*(opened(int(port), few) for port in sys.argv[2:]))
    print(*(port for port in found if port))
asyncio.run(main())
"""


@pytest.fixture
def outside() -> Iterator[str]:
    """A namespace that is joined to this machine by one cable."""
    name = f"scan-{os.getpid()}"
    here, there = f"sh{os.getpid()}"[:15], f"st{os.getpid()}"[:15]
    call("ip", "netns", "add", name)
    try:
        call("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        call("ip", "address", "add", f"{HERE}/30", "dev", here)
        call("ip", "link", "set", here, "up")
        call("ip", "-n", name, "address", "add", f"{THERE}/30", "dev", there)
        call("ip", "-n", name, "link", "set", there, "up")
        yield name
    finally:
        call("ip", "link", "delete", here, code=None)
        call("ip", "netns", "delete", name)


def _reached(outside: str, ports: set[int]) -> set[int]:
    """Those of the ports that somebody outside can connect to."""
    scan = ("ip", "netns", "exec", outside, "python3", "-c", SCAN, HERE)
    return {int(port) for port in call(*scan, *map(str, sorted(ports))).split()}


def _published() -> set[int]:
    """Ports that a Docker engine of this machine has opened on it, on whatever address."""
    lines = [
        line for line in call("ss", "-Hltnp").splitlines() if "docker-proxy" in line or "dockerd" in line
    ]
    return {int(found[1]) for line in lines if (found := re.search(r":(\d+)\s", line))}


def test_nothing_but_traefiks_port_is_reached_from_outside(standing: Vps, outside: str) -> None:
    traefik = standing.settings["traefik"]
    published = _published()
    assert traefik["http_port"] in published
    assert not _reached(outside, published), "this lab publishes on the loopback alone"
    standing.settings["traefik"] = {**traefik, "publish": "0.0.0.0"}
    standing.write()
    standing.invoke("traefik.setup")
    seen = _reached(outside, _published())
    standing.settings["traefik"] = traefik
    standing.write()
    standing.invoke("traefik.setup")
    assert seen == {traefik["http_port"]}
