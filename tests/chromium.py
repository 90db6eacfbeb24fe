#!/usr/bin/env python3
"""Start Debian's Chromium with our arguments, unable to hear of changes of this machine's network.

Tests beside each other make and take away container networks all the while, and with every change of an address Chromium gives up all
requests under way (net::ERR_NETWORK_CHANGED), those to 127.0.0.1 too. It hears of them by a netlink socket; if it cannot have one, it
takes the network as steady (Chromium's net/base/address_tracker_linux.cc). A seccomp filter refuses it that, and nothing else.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import struct
import sys

SOCKET = {"x86_64": 41, "aarch64": 198}
"""The number of socket(2)."""
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
LOAD, SKIP_UNLESS_EQUAL, RETURN = 0x20, 0x15, 0x06
"""Of linux/bpf_common.h: LD|W|ABS, JMP|JEQ|K, RET|K."""
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | 97  # EAFNOSUPPORT, as on a kernel without netlink


def _without_netlink() -> None:
    program = (
        (LOAD, 0, 0, 0),  # the number of the call
        (SKIP_UNLESS_EQUAL, 0, 3, SOCKET[os.uname().machine]),
        (LOAD, 0, 0, 16),  # its first argument
        (SKIP_UNLESS_EQUAL, 0, 1, socket.AF_NETLINK),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    filters = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filters, 0, 0)):
        if libc.prctl(*call):
            raise OSError(ctypes.get_errno(), f"prctl {call[0]}")


if __name__ == "__main__":
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("Debian's chromium is needed: .ci/install-debian")
    _without_netlink()
    os.execv(chromium, [chromium, *sys.argv[1:]])
