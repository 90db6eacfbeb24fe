"""Keeps clients waiting while Traefik restarts. Traefik listens some 100 ms before it has its routes, and answers 404 until then; while it
is away its port refuses.

Usage: listener.py READY ADDRESS…, with the URL that answers 200 once the routes are there, and the addresses of Traefik's entry points,
which have `reusePort`.

Our sockets share their port with Traefik's (SO_REUSEPORT), and a filter of one instruction gives every new connection to one of them. Ours
has a queue of one place, which we take ourselves: the kernel drops what else arrives there, the client's kernel sends it again after 1, 3,
7 s, and by then Traefik is ready. Nothing is accepted, so nothing is lost with this process. A connection to READY is kept open: it ends
at the moment when Traefik begins to stop.
Standard library only.
"""

from __future__ import annotations

import ctypes
import math
import os
import socket
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

# SO_ATTACH_REUSEPORT_CBPF of asm-generic/socket.h; Python's socket module does not name it.
_ATTACH_REUSEPORT_FILTER = 51
_RETURN = 0x06  # struct sock_filter, code BPF_RET | BPF_K
_LISTENING = "0A"  # in /proc/net/tcp
PATIENCE = 60
"""Seconds after which a Traefik that does not come is given up: its port refuses then, as every closed one."""


class Door:
    """Our socket at one of Traefik's addresses."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        # Go listens on both families where the address is unspecified, and only sockets of one family share a port.
        every = host in ("", "0.0.0.0", "::")
        family = socket.AF_INET6 if (every and socket.has_dualstack_ipv6()) or ":" in host else socket.AF_INET
        self._socket = socket.socket(family)
        if family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if every else 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind(
            ("::" if family == socket.AF_INET6 else "0.0.0.0", int(port)) if every else (host, int(port))
        )
        self._socket.listen(0)
        # The kernel numbers a port's sockets in the order of their coming; when one goes, the last takes its number.
        self._beside = self._others()
        self._ours = 1 if self._beside else 0
        self.hold()
        self._guest = socket.socket(family)
        self._guest.setblocking(False)
        near = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self._guest.connect_ex((near if every else host, int(port)))

    def _give(self, number: int) -> None:
        """Every new connection to the socket of this number."""
        code = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN, 0, 0, number))
        program = struct.pack("HL", 1, ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _ATTACH_REUSEPORT_FILTER, program)

    def _others(self) -> set[str]:
        """The inodes of the sockets that listen at our socket's address, but for ours."""
        own = str(os.fstat(self._socket.fileno()).st_ino)
        tables = [Path("/proc/net", name) for name in ("tcp", "tcp6")]
        rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()]
        found: dict[str, set[str]] = {}
        for row in rows:
            if row[3] == _LISTENING:
                found.setdefault(row[1], set()).add(row[9])
        return next((inodes - {own} for inodes in found.values() if own in inodes), set())

    def hold(self) -> None:
        self._give(self._ours)

    def let(self) -> None:
        self._beside = self._others()
        self._give(1 - self._ours)

    def follow(self) -> None:
        """When a Traefik that was there before us is gone, ours is the first socket, and the next Traefik's the second."""
        if self._ours and not self._beside & self._others():
            self._ours = 0
            self.hold()

    def close(self) -> None:
        self._guest.close()
        self._socket.close()


def _answering(
    ready: str, doors: Sequence[Door], seconds: float, pause: float = 0.02
) -> socket.socket | None:
    """The open connection over which Traefik said that its routes are there; None if it did not within the time."""
    end = time.monotonic() + seconds
    while not (found := _ask(ready)):
        if time.monotonic() > end:
            return None
        for door in doors:
            door.follow()
        time.sleep(pause)
    return found


def _ask(ready: str) -> socket.socket | None:
    url = urlsplit(ready)
    connection = None
    try:
        connection = socket.create_connection((url.hostname, url.port), 1)
        connection.sendall(f"GET {url.path} HTTP/1.1\r\nHost: {url.hostname}\r\n\r\n".encode())
        if connection.recv(4096).startswith(b"HTTP/1.1 200 "):
            connection.settimeout(None)
            return connection
    except OSError:
        pass
    if connection:
        connection.close()
    return None


def _wait_for_end(connection: socket.socket) -> None:
    with connection:
        try:
            while connection.recv(4096):
                pass
        except OSError:
            pass  # reset: killed


def main(argv: Sequence[str]) -> NoReturn:
    ready, *addresses = argv
    doors = [Door(address) for address in addresses]
    while True:
        for door in doors:
            door.hold()
        connection = _answering(ready, doors, PATIENCE)
        if not connection:
            print(
                f"listener.py: Traefik is not ready after {PATIENCE} s: its port refuses",
                file=sys.stderr,
                flush=True,
            )
            for door in doors:
                door.close()
            connection = _answering(ready, (), math.inf, 0.2)
            doors = [Door(address) for address in addresses]
        for door in doors:
            door.let()
        assert connection
        _wait_for_end(connection)


if __name__ == "__main__":
    main(sys.argv[1:])
