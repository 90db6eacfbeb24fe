"""One writer per environment on this machine: a file lock that ends with its holder, however that ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from prefect_platform.errors import LockedError, PreflightError
from prefect_platform.files import close_to_others, make_private
from prefect_platform.targets.protocol import Say


@contextlib.contextmanager
def hold(state: Path, command: str, wait: float, say: Say) -> Iterator[None]:
    """Lock `state`. Waits up to `wait` seconds, naming the holder. Raises LockedError, PreflightError."""
    make_private(state)
    for folder in (state.parent, state):
        close_to_others(folder)
    file = state / "lock"
    try:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PreflightError(
            f"{file}: {error.strerror}; nothing was changed",
            f"make {state} writable for this user, or set another folder: platform.state in invoke.yaml",
        ) from None
    try:
        _take(handle, state, wait, say)
        _sign(handle, f"{command} (pid {os.getpid()}, since {time.strftime('%H:%M:%S')})".encode())
        yield
    finally:
        os.close(handle)


def _sign(handle: int, holder: bytes) -> None:
    """Write the holder, for those who wait. A full disk prevents it; preflight reports the full disk."""
    with contextlib.suppress(OSError):
        # Written before it is cut to length: a concurrent reader must find the holder.
        os.pwrite(handle, holder, 0)
        os.ftruncate(handle, len(holder))


def _take(handle: int, state: Path, wait: float, say: Say) -> None:
    end_of_wait, told = time.monotonic() + wait, False
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        holder = os.pread(handle, 200, 0).decode(errors="replace")
        if time.monotonic() >= end_of_wait:
            raise LockedError(
                f"{state}: in use by {holder}", "wait for it to end, then run the command again"
            )
        if not told:
            told = True
            say(f"waiting for {holder}")
        time.sleep(0.2)
