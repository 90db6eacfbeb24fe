"""Standard streams that are closed or cannot be written."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


class _Output(io.FileIO):
    """Standard output, which remembers why a write failed: another file's full disk is another matter."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise


def prepare() -> None:
    """Open /dev/null for each of descriptors 0 to 2 that is closed, and watch standard output.

    Python has no stream for a closed descriptor and prints its messages to standard output; and the next file that anything opens
    would take the descriptor, and with it the output of every program that we start.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, this one
            os.set_inheritable(number, True)
    # A stream is None if its descriptor was closed when Python started, which its types do not know.
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    sys.stdout = _watched(sys.stdout)


def discard_if_unwritable(error: OSError) -> bool:
    """Whether `error` is a failed write of standard output (its disk is full); what is left then goes to /dev/null, also at exit."""
    raw = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
    if not isinstance(raw, _Output) or raw.failure is not error:
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _watched(stream: Any) -> io.TextIOWrapper:
    raw: Any = _Output(1, "w", closefd=False)
    # Unbuffered (PYTHONUNBUFFERED) stays unbuffered.
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
