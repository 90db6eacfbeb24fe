"""The objects in Prefect that the settings define, as values, validated before any request to a server."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prefect_platform.config import settings
from prefect_platform.errors import ConfigError

HEARTBEAT = "prefect.flow-run.heartbeat"
CANARY_QUEUE = "platform-canary"
"""The canary's own lane: behind hundreds of runs that wait for a slot it would start minutes later, as a worker is handed the oldest
first."""
OUR_TYPE = "process"
"""The type of the pools that our workers can serve."""


@dataclass(frozen=True)
class Queue:
    """A limit of None means none; a priority of None leaves the place to the server (1 is served first)."""

    name: str
    priority: int | None = None
    concurrency_limit: int | None = None


@dataclass(frozen=True)
class Pool:
    """`description` and `paused` are left as they are when None."""

    name: str
    type: str = OUR_TYPE
    concurrency_limit: int | None = None
    queues: tuple[Queue, ...] = ()
    description: str | None = None
    paused: bool | None = None


@dataclass(frozen=True)
class Limit:
    name: str
    limit: int
    active: bool = True
    slot_decay_per_second: float = 0.0


@dataclass(frozen=True)
class Canary:
    """The deployment that proves a worker. `path`: a folder on its machine; `entrypoint`: `file.py:flow`.

    Without a path `source`, the file's content, goes along: no worker of ours has the folder, and whatever worker takes a run writes
    the file first.
    """

    pool: str
    path: str | None
    entrypoint: str
    flow: str = "platform-canary"
    name: str = "canary"
    source: str = ""
    queue: str = CANARY_QUEUE

    def body(self) -> dict[str, Any]:
        """The deployment as the API takes it (without its flow's id)."""
        return {
            "name": self.name,
            "work_pool_name": self.pool,
            "work_queue_name": self.queue,
            "path": self.path,
            "entrypoint": self.entrypoint,
            # Without steps the worker would copy the whole folder for every run.
            "pull_steps": [self._step()],
            "paused": False,
            "tags": ["platform"],
        }

    def _step(self) -> dict[str, Any]:
        steps = "prefect.deployments.steps"
        if self.path is not None:
            return {f"{steps}.set_working_directory": {"directory": self.path}}
        # The shell's words are split at blanks, and no shell is available to write a file.
        held = base64.b64encode(self.source.encode()).decode()
        name = self.entrypoint.partition(":")[0]
        write = f"import base64,pathlib;pathlib.Path('{name}').write_bytes(base64.b64decode('{held}'))"
        return {f"{steps}.run_shell_script": {"script": f'python -c "{write}"'}}


@dataclass(frozen=True)
class Desired:
    pools: tuple[Pool, ...] = ()
    limits: tuple[Limit, ...] = ()
    canary: Canary | None = None


def desired_objects(settings: Mapping[str, Any], canary: Canary | None = None) -> Desired:
    """From the section `platform.prefect` (`work_pools`, `global_concurrency_limits`), which its schema has accepted.

    Raises ConfigError for what no schema can say.
    """
    pools = tuple(_pool(each) for each in settings.get("work_pools") or ())
    limits = tuple(Limit(**each) for each in settings.get("global_concurrency_limits") or ())
    _check_names("work_pools", [pool.name for pool in pools], ("prefect",))
    _check_names("global_concurrency_limits", [limit.name for limit in limits], ("tag:", "deployment:"))
    for pool in pools:
        _check_queues(pool)
    if canary and canary.pool not in {pool.name for pool in pools}:
        raise _wrong(f"canary: its work pool {canary.pool!r} is not among work_pools")
    if canary:
        pools = tuple(_with_lane(pool, canary.queue) if pool.name == canary.pool else pool for pool in pools)
    return Desired(pools, limits, canary)


def _with_lane(pool: Pool, name: str) -> Pool:
    """The pool with the canary's queue before all others: no two queues of a pool have one priority."""
    lower = (
        queue if queue.priority is None else replace(queue, priority=queue.priority + 1)
        for queue in pool.queues
    )
    return replace(pool, queues=(Queue(name, 1), *lower))


def _pool(raw: Mapping[str, Any]) -> Pool:
    return Pool(**{**raw, "queues": tuple(Queue(**each) for each in raw.get("queues") or ())})


def _check_queues(pool: Pool) -> None:
    place = f"work_pools: {pool.name}"
    _check_names(f"{place}: queues", [queue.name for queue in pool.queues], ())
    if CANARY_QUEUE in {queue.name for queue in pool.queues}:
        raise _wrong(f"{place}: the queue {CANARY_QUEUE} is the platform's own")
    taken: dict[int, str] = {}
    for queue in pool.queues:
        if queue.priority is not None and taken.setdefault(queue.priority, queue.name) != queue.name:
            # The server would move one of them at every setup.
            raise _wrong(
                f"{place}: {taken[queue.priority]} and {queue.name} both have priority {queue.priority}"
            )


def _check_names(place: str, names: Sequence[str], reserved: tuple[str, ...]) -> None:
    """No name twice, and none of Prefect's own."""
    for name in names:
        if reserved and name.lower().startswith(reserved):
            raise _wrong(
                f"{place}: {name!r}: names that start with {' or '.join(reserved)!r} belong to Prefect"
            )
        if names.count(name) > 1:
            raise _wrong(f"{place}: {name!r} is defined twice")


def _wrong(reason: str) -> ConfigError:
    return ConfigError(f"platform.prefect.{reason}", "invoke.example.yaml explains every key")


CANARY_ENTRYPOINT = "canary.py:platform_canary"


def desired(chosen: settings.Settings, folder: str | None) -> Desired:
    section = chosen.values["prefect"]
    workers = section["workers"]
    canary = None
    if folder and workers:
        canary = Canary(workers[0]["pool"], folder, CANARY_ENTRYPOINT)
    elif folder and section["work_pools"]:
        source = (chosen.root / "stacks" / "prefect" / "canary.py").read_text()
        canary = Canary(section["work_pools"][0]["name"], None, CANARY_ENTRYPOINT, source=source)
    return desired_objects(section, canary)
