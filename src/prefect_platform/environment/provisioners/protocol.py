"""What a provisioner is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from prefect_platform.environment.opened import Platform
from prefect_platform.planning.diff import Step


@dataclass(frozen=True)
class Done:
    """What was changed, and what a person should know."""

    steps: tuple[Step, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ready:
    """How long to wait for a service, in seconds, and why it cannot become ready: a cause and the next command, or None."""

    seconds: float
    hopeless: Callable[[], tuple[str, str] | None]


class Provisioner(Protocol):
    """One kind of thing inside a stack's services."""

    def check(self, platform: Platform) -> None:
        """Raises ConfigError for settings that cannot work, before anything is touched."""
        ...

    def plan(self, platform: Platform, running: bool) -> tuple[Step, ...]:
        """What `apply` would do. `running`: the stack's services answer; if not, everything that a new one lacks."""
        ...

    def apply(self, platform: Platform, ready: Ready) -> Done:
        """Do it. Interrupted anywhere, the next call does the rest."""
        ...
