"""A Ctrl-C that a finalizer cannot drop.

Python raises KeyboardInterrupt wherever it is at that moment, and what a finalizer raises is dropped: of a hundred Ctrl-C's at an
HTTP connection that was left to the garbage collector, three were lost without a word.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
"""The exit code, as shells have it."""
AGAIN_SECONDS = 0.2


def listen() -> None:
    """From now on SIGINT raises KeyboardInterrupt, and does so once more unless that is on its way by then. Takes SIGALRM."""
    signal.signal(signal.SIGALRM, _again)
    signal.signal(signal.SIGINT, _interrupt)


def arrived() -> None:
    """The command has ended, by it or otherwise: no second one."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
    raise KeyboardInterrupt


def _again(number: int, frame: FrameType | None) -> None:
    handled = sys.exc_info()[1]
    while handled is not None:
        if isinstance(handled, KeyboardInterrupt):
            return  # what is open is being closed
        handled = handled.__context__
    raise KeyboardInterrupt
