"""Standard streams that are closed or cannot be written."""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any

_NOBODY = (BrokenPipeError, ConnectionResetError)
"""A pipe, or a socket, whose reader is gone."""


class _Output(io.FileIO):
    """Standard output. What nobody reads is dropped, so that work is finished; other failures are remembered: another file's full disk is
    another matter.
    """

    failure: OSError | None = None
    unread: str = ""
    """Why nobody reads it."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except _NOBODY:
            self.unread = "its reader is gone"
            _discard(self.fileno())
        except OSError as error:
            self.failure = error
            raise
        return memoryview(data).nbytes


class _Messages(io.FileIO):
    """Standard error. A message that nobody can receive stops no work and changes no exit code."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except _NOBODY:
            _discard(self.fileno())  # of the programs that we start, too
        except OSError:
            pass  # the disk behind it may have room again
        return memoryview(data).nbytes


def prepare() -> None:
    """Open /dev/null for each of descriptors 0 to 2 that is closed, and watch standard output and standard error.

    Python has no stream for a closed descriptor and prints its messages to standard output; and the next file that anything opens
    would take the descriptor, and with it the output of every program that we start.
    """
    closed = set()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            closed.add(number)
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, this one
            os.set_inheritable(number, True)
    # A stream is None if its descriptor was closed when Python started, which its types do not know.
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    output = _Output(1, "w", closefd=False)
    output.unread = "it is closed" if 1 in closed else ""
    sys.stdout = _watched(sys.stdout, output)
    sys.stderr = _watched(sys.stderr, _Messages(2, "w", closefd=False))


def discard_if_unwritable(error: OSError) -> bool:
    """Whether `error` is a failed write of standard output (its disk is full); what is left then goes to /dev/null, also at exit."""
    output = _output()
    if output is None or output.failure is not error:
        return False
    _discard(output.fileno())
    return True


def unread() -> str:
    """Why nobody can receive what is printed to standard output, as far as it is known; empty: somebody may."""
    output = _output()
    if output is None or output.unread:
        return output.unread if output else ""
    poll = select.poll()
    poll.register(output.fileno(), 0)
    gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    return "its reader is gone" if gone else ""


def deliver(text: str) -> str:
    """Print what cannot be had again; returns why nobody received it, empty if it was written."""
    try:
        print(text)
        sys.stdout.flush()
    except OSError as error:
        if not discard_if_unwritable(error):
            raise
        return error.strerror or str(error)
    output = _output()
    return output.unread if output else ""


def _output() -> _Output | None:
    """None for another program's standard output, as in a test."""
    buffer = getattr(sys.stdout, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return raw if isinstance(raw, _Output) else None


def _discard(descriptor: int) -> None:
    """Send what is written to it from now on to /dev/null."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def _watched(stream: Any, raw: Any) -> io.TextIOWrapper:
    # Unbuffered (PYTHONUNBUFFERED) stays unbuffered.
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
