"""Starts Authentik trusting forwarded headers from the gateway's network only: start.py server|worker.

Which network that is, is known when the container runs: it stands in two, and the one with the way out is the gateway's.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import sys
from pathlib import Path

ROUTES = Path("/proc/net/route")


def gateway_network(table: str) -> str:
    """From the kernel's routing table (proc(5), addresses as little-endian hex): the network of the default route's device.

    Raises ValueError when there is none.
    """
    rows = [line.split() for line in table.splitlines()[1:]]
    way_out = {row[0] for row in rows if row[1] == "00000000" and row[7] == "00000000"}
    for device, target, *_, mask in (row[:8] for row in rows):
        if device in way_out and target != "00000000":
            return str(ipaddress.ip_network(f"{_address(target)}/{_address(mask)}"))
    raise ValueError("no network with a way out")


def _address(text: str) -> str:
    return socket.inet_ntoa(struct.pack("<L", int(text, 16)))


def main() -> None:
    try:
        network = gateway_network(ROUTES.read_text())
    except ValueError as error:
        sys.exit(f"{ROUTES}: {error}: the gateway's network is not known, and nothing else is to be trusted")
    os.environ["AUTHENTIK_LISTEN__TRUSTED_PROXY_CIDRS"] = network
    os.execvp("ak", ["ak", *sys.argv[1:]])


if __name__ == "__main__":
    main()
