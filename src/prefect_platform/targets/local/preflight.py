"""What must be true of this machine before the local target touches it. Nothing is created here: a plan goes through this as well."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import psutil

from prefect_platform.errors import PreflightError
from prefect_platform.venvs import make

_SOCKET_LIMIT = 100  # bytes; the kernel takes 107 and supervisord binds `<socket>.<pid>` first
_NEEDED_BYTES = 200 * 1024 * 1024
_RUNTIME_BYTES = 1500 * 1024 * 1024
_PINS_PREFECT = re.compile(rb"^prefect==", re.MULTILINE)


def read_runtime_lock(file: Path) -> bytes:
    """The lock's bytes. Raises PreflightError for one that is missing or cut off: it would restart everything on an empty runtime."""
    lock = make.read_lock(file)
    if not _PINS_PREFECT.search(lock):
        raise PreflightError(
            f"{file}: incomplete lock: prefect is not in it; nothing was changed",
            "git checkout -- requirements",
        )
    return lock


def check_folder(state: Path, socket_file: Path, *, installs: bool) -> None:
    """The state folder: short enough for a Unix socket, writable, with room. Raises PreflightError."""
    if len(os.fsencode(socket_file)) > _SOCKET_LIMIT:
        raise PreflightError(
            f"{socket_file}: too long for a Unix socket", "set platform.state to a shorter path"
        )
    folder = _existing(state)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PreflightError(
            f"{folder}: not writable; nothing was changed",
            "make it writable for this user, or set another folder: platform.state in invoke.yaml",
        )
    needed = _NEEDED_BYTES + (_RUNTIME_BYTES if installs else 0)
    free = room(state)
    if free < needed:
        raise PreflightError(
            f"{state}: {free // 2**20} MiB free, {needed // 2**20} MiB needed; nothing was changed",
            "free disk space, or set another folder: platform.state in invoke.yaml",
        )


def room(state: Path) -> int:
    """Free bytes where the state folder is, or will be."""
    return shutil.disk_usage(_existing(state)).free


def _existing(state: Path) -> Path:
    return next(path for path in (state, *state.parents) if path.exists())


def check_port(name: str, host: str, port: int, ours: Callable[[psutil.Process], bool], key: str) -> None:
    """`name` can listen there, or a process of `ours` does already. Raises PreflightError, which says who has the port, and the `key` that
    sets it.
    """
    problem = _cannot_bind(host, port)
    if problem is None:
        return
    if problem.errno == errno.EACCES:
        raise PreflightError(
            f"port {port} ({name}): not allowed for this user", f"set {key} to a port above 1023"
        )
    if problem.errno != errno.EADDRINUSE:
        raise PreflightError(f"{host}:{port}: {problem.strerror}", "correct platform.gateway.host")
    holder = _holder(port)
    if not (holder and _is(holder, ours)):
        who = f"{holder.info['name']} (pid {holder.pid})" if holder else "a process of another user"
        raise PreflightError(
            f"port {port} ({name}) is taken by {who}",
            f"stop it, or set another port: {key}; nothing was changed",
        )


def _cannot_bind(host: str, port: int) -> OSError | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def _holder(port: int) -> psutil.Process | None:
    """The process that listens there. Without root only one's own processes are visible."""
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            links = process.net_connections("tcp")
            if any(link.status == "LISTEN" and link.laddr.port == port for link in links):
                return process
    return None


def _is(process: psutil.Process, ours: Callable[[psutil.Process], bool]) -> bool:
    try:
        return ours(process)
    except psutil.Error:
        return False
