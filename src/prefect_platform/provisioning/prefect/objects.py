"""Work pools, queues, limits and the canary deployment: configured → changes → applied.

`plan_objects` is pure; `observe` reads, `apply_changes` writes. Nothing is ever deleted but the automation that earlier versions made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from prefect_platform.config.objects import Canary, Desired, Limit, Pool, Queue
from prefect_platform.errors import ConfigError

from .api import Json, PrefectApi

# Prefect's own entries among the global limits: `tag:<tag>` and `deployment:<id>`.
INTERNAL_LIMITS = ("tag:", "deployment:")
# A queue of this name comes with every pool, first in order and without a limit.
DEFAULT_QUEUE: Json = {"name": "default", "priority": 1, "concurrency_limit": None}
FORMER_AUTOMATION = "platform: crash zombie flow runs"
"""Until 0.5 it crashed every run that was silent for 90 s, living ones of slower clients too; stacks/prefect/reconcile.py took its place."""


@dataclass(frozen=True)
class Observed:
    """What the server has. `queues` only of configured pools; `automations`: of FORMER_AUTOMATION."""

    pools: Mapping[str, Json] = field(default_factory=dict)
    queues: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    limits: Mapping[str, Json] = field(default_factory=dict)
    automations: tuple[Json, ...] = ()
    deployment: Json | None = None


@dataclass(frozen=True)
class Change:
    """One call. `target` addresses it beside the name: a pool, an automation's id, a flow."""

    action: Literal["create", "update", "delete"]
    kind: Literal["work pool", "queue", "queue order", "global limit", "automation", "deployment"]
    name: str
    cause: str
    body: Json = field(repr=False)
    target: str = ""

    @property
    def subject(self) -> str:
        """What is created, updated or deleted, as a person reads it."""
        return f"{self.kind} {f'{self.target}/' if self.kind in ('queue', 'deployment') else ''}{self.name}"

    def __str__(self) -> str:
        return f"{self.action} {self.subject}: {self.cause}"


def observe(api: PrefectApi, desired: Desired) -> Observed:
    """Read what the declaration speaks of. Raises ApiError."""
    pools = _named(api.work_pools())
    canary = desired.canary
    return Observed(
        pools=pools,
        queues={pool.name: _named(api.queues(pool.name)) for pool in desired.pools if pool.name in pools},
        limits=_named(each for each in api.global_limits() if not each["name"].startswith(INTERNAL_LIMITS)),
        automations=tuple(api.automations(FORMER_AUTOMATION)),
        deployment=api.deployment(canary.flow, canary.name) if canary else None,
    )


def plan_objects(desired: Desired, observed: Observed) -> tuple[Change, ...]:
    """The changes that bring the server to the configuration, in the order to apply them; empty when it matches.

    Raises ConfigError for a pool whose type differs: Prefect cannot change it.
    """
    changes: list[Change] = []
    for pool in desired.pools:
        changes += _pool_changes(pool, observed.pools.get(pool.name))
        changes += _queue_changes(pool, observed.queues.get(pool.name, {"default": DEFAULT_QUEUE}))
    for limit in desired.limits:
        changes += _limit_changes(limit, observed.limits.get(limit.name))
    changes += [_deleted(each) for each in observed.automations]
    if desired.canary:
        changes += _canary_changes(desired.canary, observed.deployment)
    return tuple(changes)


_EXTRA = ": not in the configuration; left alone (harmless): declare it, or delete it in the UI"


def notices(desired: Desired, observed: Observed) -> tuple[str, ...]:
    """What exists and is left alone: objects outside the configuration."""
    pools = {pool.name: {"default", *(queue.name for queue in pool.queues)} for pool in desired.pools}
    limits = {limit.name for limit in desired.limits}
    found = [f"work pool {name}{_EXTRA}" for name in sorted({*observed.pools} - {*pools})]
    for pool, queues in sorted(observed.queues.items()):
        found += [f"queue {pool}/{name}{_EXTRA}" for name in sorted({*queues} - pools[pool])]
    found += [f"global limit {name}{_EXTRA}" for name in sorted({*observed.limits} - limits)]
    return tuple(found)


def _pool_changes(pool: Pool, actual: Json | None) -> list[Change]:
    wanted: Json = {"concurrency_limit": pool.concurrency_limit}
    wanted |= {} if pool.description is None else {"description": pool.description}
    wanted |= {} if pool.paused is None else {"is_paused": pool.paused}
    if actual is None:
        body = {"name": pool.name, "type": pool.type, **wanted}
        return [Change("create", "work pool", pool.name, _listed({"type": pool.type, **wanted}), body)]
    if actual["type"] != pool.type:
        raise ConfigError(
            f"platform.prefect.work_pools: {pool.name} is configured with type {pool.type} but exists "
            f"with type {actual['type']}, and the type of a pool cannot be changed",
            f"set type {actual['type']}, or give the new pool another name",
        )
    # The server keeps "no description" as null, the settings as an empty text.
    return _update("work pool", pool.name, {**actual, "description": actual["description"] or ""}, wanted)


def _queue_changes(pool: Pool, actual: Mapping[str, Json]) -> list[Change]:
    changes: list[Change] = []
    ranked = sorted(pool.queues, key=lambda queue: (queue.priority is None, queue.priority))
    for queue in ranked:
        wanted: Json = {"concurrency_limit": queue.concurrency_limit}
        if queue.name in actual:
            changes += _update("queue", queue.name, actual[queue.name], wanted, pool.name)
            continue
        wanted |= {} if queue.priority is None else {"priority": queue.priority}
        changes.append(
            Change("create", "queue", queue.name, _listed(wanted), {"name": queue.name, **wanted}, pool.name)
        )
    cause = _disorder([queue for queue in ranked if queue.priority is not None], actual)
    if cause:
        order = [(queue.name, queue.priority) for queue in ranked if queue.priority is not None]
        changes.append(Change("update", "queue order", pool.name, cause, {"order": order}))
    return changes


def _disorder(ranked: list[Queue], actual: Mapping[str, Json]) -> str:
    """Why the priorities of a pool must be set; empty when they will be right without.

    Priorities are unique in a pool: a queue put on a taken one pushes the others on, configured ones too.
    Setting all of them, lowest first, is the sequence that no push can undo.
    """
    there = [queue for queue in ranked if queue.name in actual]
    moved = [queue for queue in there if actual[queue.name]["priority"] != queue.priority]
    if moved:
        return ", ".join(
            f"{queue.name} {actual[queue.name]['priority']} → {queue.priority}" for queue in moved
        )
    for new in ranked:
        pushed = any((queue.priority or 0) >= (new.priority or 0) for queue in there)
        if new.name not in actual and pushed:
            return f"{new.name} is inserted between"
    return ""


def _limit_changes(limit: Limit, actual: Json | None) -> list[Change]:
    wanted = {
        "limit": limit.limit,
        "active": limit.active,
        "slot_decay_per_second": limit.slot_decay_per_second,
    }
    if actual is None:
        return [Change("create", "global limit", limit.name, _listed(wanted), {"name": limit.name, **wanted})]
    return _update("global limit", limit.name, actual, wanted)


def _deleted(automation: Json) -> Change:
    cause = "runs whose process died are ended by the background services"
    return Change("delete", "automation", FORMER_AUTOMATION, cause, {}, str(automation["id"]))


def _canary_changes(canary: Canary, actual: Json | None) -> list[Change]:
    body = canary.body()
    if actual is None:
        cause = f"in work pool {canary.pool}, {canary.entrypoint}"
        return [Change("create", "deployment", canary.name, cause, body, canary.flow)]
    # The whole body goes: the server's update of a deployment is the same call as its creation.
    cause = _cause(actual, _changed(actual, body))
    return [Change("update", "deployment", canary.name, cause, body, canary.flow)] if cause else []


def _update(
    kind: Literal["work pool", "queue", "global limit"],
    name: str,
    actual: Json,
    wanted: Json,
    target: str = "",
) -> list[Change]:
    changed = _changed(actual, wanted)
    return [Change("update", kind, name, _cause(actual, changed), changed, target)] if changed else []


def _changed(actual: Json, wanted: Json) -> Json:
    return {key: value for key, value in wanted.items() if actual.get(key) != value}


def _cause(actual: Json, changed: Json) -> str:
    return ", ".join(f"{key} {_shown(actual.get(key))} → {_shown(value)}" for key, value in changed.items())


def _listed(wanted: Json) -> str:
    return ", ".join(f"{key} {_shown(value)}" for key, value in wanted.items() if value != "")


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _named(objects: Iterable[Json]) -> dict[str, Json]:
    return {str(each["name"]): each for each in objects}


def apply_changes(api: PrefectApi, changes: Iterable[Change]) -> None:
    """Apply the changes, in order. Raises ApiError at the first that fails; a new plan resumes from there."""
    for change in changes:
        _apply(api, change)


def _apply(api: PrefectApi, change: Change) -> None:
    match change.kind, change.action:
        case "work pool", "create":
            api.create_work_pool(change.body)
        case "work pool", _:
            api.update_work_pool(change.name, change.body)
        case "queue", "create":
            api.create_queue(change.target, change.body)
        case "queue", _:
            api.update_queue(change.target, change.name, change.body)
        case "queue order", _:
            for name, priority in change.body["order"]:
                api.update_queue(change.name, name, {"priority": priority})
        case "global limit", "create":
            api.create_global_limit(change.body)
        case "global limit", _:
            api.update_global_limit(change.name, change.body)
        case "automation", _:
            api.delete_automation(change.target)
        case "deployment", _:
            api.put_deployment(change.target, change.body)
