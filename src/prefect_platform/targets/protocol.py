"""What a target is: the only place of effects on a machine.

Every target fulfils `Target`. What only some can do is a protocol of its own; a caller gets it with `require`, which raises the
one ConfigError for a target that cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from prefect_platform.config.stack import Stack
from prefect_platform.config.traits import Traits
from prefect_platform.errors import ConfigError
from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import Observed, Plan, Step
from prefect_platform.planning.where import Where
from prefect_platform.secretstore.store import SecretStore

Say = Callable[[str], None]
LOW_BYTES = 50 * 1024 * 1024
"""With less free space than this, databases and logs soon cannot be written."""


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
    """A process for display. `seconds` is its age, `memory` bytes; `detail` says why it is not running."""

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


@dataclass(frozen=True)
class Cost:
    """A line of an estimate: what, how much of it, USD a month."""

    what: str
    amount: str
    usd: float


@dataclass(frozen=True)
class Estimate:
    """What an environment costs a month. `as_of` is the month of the prices, `source` where they were read, `more` what comes on top."""

    as_of: str
    source: str
    more: str
    items: tuple[Cost, ...]

    @property
    def total(self) -> float:
        """USD a month."""
        return round(sum(each.usd for each in self.items), 2)


class Target(Protocol):
    """Where an environment runs. An empty plan applied runs nothing."""

    traits: Traits

    @property
    def store(self) -> SecretStore: ...

    # -- planning
    def where(self, stack: str, scope: str = "environment") -> Where: ...
    def adapt(self, bundles: list[Bundle]) -> list[Bundle]:
        """The bundles as this target runs them."""
        ...

    def observe(self, bundles: Sequence[Bundle]) -> Observed:
        """What exists now, and what the target itself must do for these bundles. Touches nothing."""
        ...

    # -- effects
    def lock(self, command: str, wait: float) -> AbstractContextManager[None]: ...
    def preflight(self, plan: Plan, bundles: Sequence[Bundle]) -> None:
        """Raises PreflightError while nothing is touched yet."""
        ...

    def apply(self, plan: Plan, bundles: Sequence[Bundle]) -> None:
        """Do the steps. Interrupted anywhere, the next observe sees what is left."""
        ...

    def stop(self, services: Sequence[str]) -> None: ...
    def restart(self, services: Sequence[str]) -> None: ...
    def removal(self, stack: str, data: bool) -> str:
        """What `remove` would delete, for a person to confirm; empty when there is nothing."""
        ...

    def remove(self, stacks: Mapping[str, Stack], stack: str, data: bool) -> None: ...

    # -- looking
    def established(self) -> list[str]:
        """Names of the stacks that are set up."""
        ...

    def known(self) -> list[tuple[str, str]]:
        """(stack, service) of what was started once and not removed since."""
        ...

    def processes(self) -> list[Process]: ...
    def memory(self) -> int:
        """The host's, in bytes, of which stacks take a share; 0 where none does."""
        ...

    def room(self) -> int:
        """Free bytes where the data is."""
        ...

    def run_in(self, stack: str, argv: Sequence[str]) -> str:
        """Run Python with the environment and secrets of the stack's processes; returns stdout. Raises ProgramFailed."""
        ...

    def tail(self, service: str, lines: int) -> list[str]: ...
    def follow(self, services: Sequence[str]) -> Iterator[tuple[str, str]]: ...


# -- capabilities
@runtime_checkable
class Releases(Protocol):
    """Keeps what ran, and runs it again."""

    def history(self) -> list[Entry]: ...
    def releases(self, stack: Stack) -> list[tuple[str, bool, Entry | None]]: ...
    def roll_back(self, stack: Stack, wanted: str, restore: bool) -> str: ...


@runtime_checkable
class Executes(Protocol):
    """Runs a command inside a service, with the operator's terminal; returns its exit code."""

    def execute(self, service: str, words: Sequence[str]) -> int: ...


@runtime_checkable
class Backups(Protocol):
    """Copies a stack's database while all runs, and puts a copy in its place."""

    def backup(self, stack: Stack, folder: Path, label: str) -> Path: ...
    def restore(self, stack: Stack, file: Path) -> str: ...


@runtime_checkable
class SetsDatabaseAside(Protocol):
    """Renames a damaged database so that setup can start with an empty one."""

    def set_database_aside(self, stack: Stack) -> list[Path]: ...


@runtime_checkable
class Images(Protocol):
    """Knows what registries say of an image tag: image → digest."""

    def digests(self, images: Sequence[str]) -> dict[str, str]: ...


@runtime_checkable
class Exposes(Protocol):
    """Serves a stack's routes only when its setup is complete, and reaches its unpublished ports from here."""

    def expose(self, bundle: Bundle) -> None: ...
    def reach(self, stack: str, service: str, port: int) -> str: ...


@runtime_checkable
class HasVault(Protocol):
    """Runs, or reaches, the Vault that keeps its secrets."""

    def vault_steps(self) -> tuple[Step, ...]: ...
    def set_up_vault(self) -> tuple[Step, ...]: ...
    def recover_vault(self, keys: Sequence[str]) -> None: ...


@runtime_checkable
class Notes(Protocol):
    """Can warn about the settings before they surprise a user."""

    def notes(self) -> tuple[str, ...]: ...


@runtime_checkable
class SharesRuntime(Protocol):
    """Runs flows in the environment that its services run in, as their user."""

    def tampered(self) -> str | None:
        """What is not as it was installed, by a quick look; empty when nothing is, None when it is not known what was."""
        ...


@runtime_checkable
class Sleeps(Protocol):
    """May be asleep, which to be looked at it must not be."""

    def wake(self) -> bool:
        """Whether it was. Afterwards it is healthy, or has had time to be."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """Can install on a bare host what it needs there."""

    def prepare(self) -> str: ...


@runtime_checkable
class Costs(Protocol):
    """Runs at a provider whose prices are known."""

    def estimate(self, hours: float) -> Estimate: ...


class Preview(Target, Protocol):
    """A target that runs the environment in a Docker engine of this machine instead of its real place."""

    def differences(self) -> tuple[str, ...]:
        """What is not as in the real place."""
        ...

    def memory_use(self) -> tuple[int, int]:
        """Bytes in use (0 if the engine does not count), and the limit."""
        ...

    def end(self) -> None:
        """Remove it with its data, images and keys."""
        ...


@runtime_checkable
class Previews(Protocol):
    """Can be tried here before it runs at its provider."""

    def preview_settings(self, port: int) -> dict[str, Any]:
        """The settings to override for it; it listens on 127.0.0.1:`port`."""
        ...

    def preview(self, port: int) -> Preview:
        """From a target opened with these settings. Raises PreflightError without a Docker engine."""
        ...


C = TypeVar("C")
_LACKS: dict[type, tuple[str, str]] = {
    Releases: (
        "keeps no releases, and no history of them",
        "./invoke prefect.stop, git checkout the version before, ./invoke prefect.restore --file BACKUP --yes (made before the upgrade: an older Prefect refuses a newer database), ./invoke prefect.setup",
    ),
    Executes: ("has no containers", "its processes run on this machine: docs/local.md"),
    Backups: ("makes no backups", "copy the database by its own tools"),
    SetsDatabaseAside: (
        "has no database file on this machine",
        "docs/vps.md and docs/fly.md say how to restore one",
    ),
    Images: ("runs no images", "nothing to pin"),
    Exposes: (
        "publishes every service's port itself",
        "name an environment whose stacks run apart: --env NAME",
    ),
    Notes: ("has no notes", "nothing to read"),
    SharesRuntime: ("gives flows no runtime of its services", "nothing to compare"),
    Sleeps: ("never sleeps", "nothing to wake"),
    HasVault: ("keeps its secrets in a file", "no Vault to recover"),
    Prepares: ("has no host to prepare", "name an environment that runs on a host of yours: --env NAME"),
    Costs: ("has no prices to estimate from", "name an environment that runs at a provider: --env NAME"),
    Previews: ("has no preview", "name an environment that runs at a provider: --env NAME"),
}


def require(target: Target, capability: type[C]) -> C:
    """The target, as one that has the capability. Raises ConfigError with what to do instead."""
    if isinstance(target, capability):
        return target
    lacks, hint = _LACKS[capability]
    raise ConfigError(f"target {target.traits.name} {lacks}", hint)
