"""A database's copy on its way to the machine or from it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Protocol

from prefect_platform.config.stack import Stack
from prefect_platform.errors import ApplyError, ProgramFailed
from prefect_platform.targets.combined import sqlite

from .flyctl import Json

_STEADY_SECONDS = 60
"""What a machine that keeps exiting may take to be up for a moment: Fly waits longer before each start."""


class Machine(sqlite.Runs, Protocol):
    """What of the target is used here."""

    def status(self) -> Json: ...


@contextlib.contextmanager
def passing(machine: Machine, stack: Stack) -> Iterator[str]:
    """A path on the volume for a file in transit; removed afterwards."""
    there = f"{machine.where(stack.name).data}/passing.db"
    gone = f"import pathlib; pathlib.Path('{there}').unlink(missing_ok=True)"
    machine.run_in(stack.name, ["-c", gone])
    try:
        yield there
    finally:
        machine.run_in(stack.name, ["-c", gone])


@contextlib.contextmanager
def server_down_if_it_exits(machine: Machine, server: str) -> Iterator[None]:
    """A server that keeps exiting takes the machine along within seconds, sooner than a large file arrives: it is stopped, and started
    again if what is done here fails. Raises PlatformError where the machine is never up.
    """
    exits = _stopped_if_it_exits(machine, server)
    try:
        yield
    except BaseException:
        if exits:
            machine.restart([server])
        raise


def _stopped_if_it_exits(machine: Machine, server: str) -> bool:
    began = time.monotonic()
    while True:
        try:
            states = {each["name"]: each["statename"] for each in machine.status()["processes"]}
            if exits := states.get(server) not in ("RUNNING", "STOPPED"):
                machine.stop([server])
            return exits
        except (
            ApplyError,
            ProgramFailed,
        ):  # between two starts; no login, no machine, no network are said at once
            if time.monotonic() - began > _STEADY_SECONDS:
                raise
            time.sleep(1)
