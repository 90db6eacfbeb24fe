"""What a target is: the only place of effects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from prefect_platform.config.stack import Stack
from prefect_platform.errors import ConfigError
from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import Observed, Plan
from prefect_platform.planning.where import Where
from prefect_platform.secretstore.store import SecretStore

Say = Callable[[str], None]


LOW_BYTES = 50 * 1024 * 1024
"""With less room than this, databases and logs soon cannot be written: what goes wrong then has that cause."""


@dataclass(frozen=True)
class Entry:
    """A line of the history: who did what, when (UTC), and how it ended: good, failed."""

    time: str
    who: str
    what: str
    release: str
    result: str
    detail: str


@dataclass(frozen=True)
class Process:
    """A process as a person asks for it. `seconds` is its age, `memory` bytes; `detail` says why it is not running."""

    stack: str
    service: str
    state: str
    pid: int
    seconds: int
    memory: int
    detail: str = ""

    @property
    def name(self) -> str:
        return f"{self.stack}-{self.service}" if self.stack else self.service


class Target(Protocol):
    """The only place of effects. An empty plan applied runs nothing."""

    name: str
    runtime: str
    combined: bool
    """Whether all stacks run together under one supervisor."""

    @property
    def store(self) -> SecretStore: ...
    def finish(self, bundle: Bundle) -> Bundle: ...
    def gather(self, bundles: list[Bundle]) -> list[Bundle]: ...
    def lock(self, command: str, wait: float) -> AbstractContextManager[None]: ...
    def where(self, stack: str, scope: str = "environment") -> Where: ...
    def observe(self, stacks: Sequence[Stack]) -> Observed: ...
    def preflight(self, plan: Plan, bundles: Sequence[Bundle]) -> None: ...
    def apply(self, plan: Plan, bundles: Sequence[Bundle]) -> None: ...
    def complete(self, bundles: Sequence[Bundle]) -> tuple[str, ...]: ...
    def expose(self, bundle: Bundle) -> None: ...
    def reach(self, stack: str, service: str, port: int) -> str: ...
    def processes(self) -> list[Process]: ...
    def run_in(self, stack: str, argv: Sequence[str]) -> str: ...
    def tail(self, service: str, lines: int) -> list[str]: ...
    def follow(self, services: Sequence[str]) -> Iterator[tuple[str, str]]: ...
    def stop(self, services: Sequence[str]) -> None: ...
    def restart(self, services: Sequence[str]) -> None: ...
    def room(self) -> int: ...
    def known(self) -> list[tuple[str, str]]: ...
    def established(self) -> list[str]: ...
    def set_database_aside(self) -> list[Path]: ...
    def backup(self, stack: Stack, folder: Path, label: str) -> Path: ...
    def restore(self, stack: Stack, file: Path) -> str: ...
    def history(self) -> list[Entry]: ...
    def releases(self, stack: Stack) -> list[tuple[str, bool, Entry | None]]: ...
    def roll_back(self, stack: Stack, wanted: str, restore: bool) -> str: ...
    def execute(self, service: str, words: Sequence[str]) -> int: ...
    def digests(self, images: Sequence[str]) -> dict[str, str]: ...
    def removal(self, stack: str, data: bool) -> str: ...
    def remove(self, stacks: Mapping[str, Stack], stack: str, data: bool) -> None: ...


class WithoutReleases:
    """For a target that keeps none: what is asked of releases is refused with a way that works there."""

    name: str

    def history(self) -> list[Entry]:
        raise self._none()

    def releases(self, stack: Stack) -> list[tuple[str, bool, Entry | None]]:
        raise self._none()

    def roll_back(self, stack: Stack, wanted: str, restore: bool) -> str:
        raise self._none()

    def execute(self, service: str, words: Sequence[str]) -> int:
        raise ConfigError(
            f"target {self.name} has no containers", "its processes run on this machine: docs/local.md"
        )

    def digests(self, images: Sequence[str]) -> dict[str, str]:
        return {}

    def expose(self, bundle: Bundle) -> None:
        """All routes are served at once."""

    def reach(self, stack: str, service: str, port: int) -> str:
        return f"http://127.0.0.1:{port}"

    def _none(self) -> ConfigError:
        return ConfigError(
            f"target {self.name} keeps no releases",
            "git checkout the version before, then ./invoke prefect.plan and prefect.setup",
        )
