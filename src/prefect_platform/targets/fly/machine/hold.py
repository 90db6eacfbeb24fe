"""Keeps clients waiting while the gateway starts. Traefik listens some 100 ms before it has its routes, and answers 404 until then.

Our socket is bound first and shares the port with Traefik's (SO_REUSEPORT); a filter of one instruction gives every connection to the first
socket of the group, which is ours. Nobody accepts there. When the routes are there it is closed, and the kernel moves what waits in it to
Traefik (sysctl net.ipv4.tcp_migrate_req, Linux 5.14): accepted late, never refused.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MIGRATE = Path("/proc/sys/net/ipv4/tcp_migrate_req")
_ATTACH = 51  # SO_ATTACH_REUSEPORT_CBPF of asm-generic/socket.h; Python's socket module does not name it
_RETURN_0 = struct.pack("HBBI", 0x06, 0, 0, 0)  # struct sock_filter: BPF_RET | BPF_K, the first socket
_SECONDS = 60


def allow() -> None:
    """As root: let the kernel move connections. Where it cannot be set, requests are not kept waiting."""
    try:
        MIGRATE.write_text("1")
    except OSError as error:
        if not _allowed():
            print(f"hold.py: early requests may get 404: {error}", file=sys.stderr, flush=True)


def _allowed() -> bool:
    return MIGRATE.exists() and MIGRATE.read_text().strip() == "1"


def hold(gateway: Mapping[str, Any]) -> None:
    """Start; a thread ends it when `ready` answers 200, or after a minute. Call before Traefik is started."""
    if not _allowed():
        return
    waiting = socket.socket()
    waiting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    waiting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    waiting.bind(("0.0.0.0", gateway["port"]))
    waiting.listen(1024)
    code = ctypes.create_string_buffer(_RETURN_0)
    program = struct.pack("HL", 1, ctypes.addressof(code))
    waiting.setsockopt(socket.SOL_SOCKET, _ATTACH, program)
    threading.Thread(target=_end, args=(waiting, gateway["ready"]), daemon=True).start()


def _end(waiting: socket.socket, ready: str) -> None:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(ready, timeout=1) as answer:
                if answer.status == 200:
                    break
        except OSError:
            time.sleep(0.01)
    waiting.close()
