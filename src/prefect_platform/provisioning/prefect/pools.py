"""The table of `prefect.pools`: work pools and queues as configured, as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

from prefect_platform.config.objects import Desired, Pool, Queue

from .api import Json, PrefectApi
from .heartbeat import is_online


@dataclass(frozen=True)
class PoolRow:
    """One pool (`queue` is None) or one of its queues. A limit of None means none.

    `status` is Prefect's READY, NOT_READY or PAUSED; MISSING is configured but does not exist.
    `workers_online` belongs to pools: by default a worker serves all queues of its pool.
    """

    pool: str
    queue: str | None
    declared: bool
    limit_configured: int | None = None
    limit_actual: int | None = None
    priority_configured: int | None = None
    priority: int | None = None
    status: str = "MISSING"
    active_slots: int = 0
    workers_online: int | None = None


def pools_table(api: PrefectApi, desired: Desired) -> tuple[PoolRow, ...]:
    """Configured pools first, in their order, then the others. Raises ApiError."""
    actual = {str(each["name"]): each for each in api.work_pools()}
    declared = {pool.name: pool for pool in desired.pools}
    rows: list[PoolRow] = []
    for name in [*declared, *sorted(set(actual) - set(declared))]:
        rows += _rows(api, name, declared.get(name), actual.get(name))
    return tuple(rows)


def _rows(api: PrefectApi, name: str, declared: Pool | None, actual: Json | None) -> list[PoolRow]:
    row = PoolRow(name, None, declared is not None, declared.concurrency_limit if declared else None)
    if actual is None:
        return [row]
    slots, queues = api.pool_slots(name), {str(each["name"]): each for each in api.queues(name)}
    in_queue = {str(each["queue_name"]): int(each["active_slots"]) for each in slots["queues"]}
    row = replace(
        row,
        limit_actual=actual["concurrency_limit"],
        status=str(actual["status"]),
        active_slots=int(slots["active_slots"]),
        workers_online=sum(is_online(worker) for worker in api.workers(name)),
    )
    return [row, *_queue_rows(name, declared, queues, in_queue)]


def _queue_rows(
    pool: str, declared: Pool | None, actual: dict[str, Json], slots: dict[str, int]
) -> list[PoolRow]:
    wanted = {queue.name: queue for queue in declared.queues} if declared else {}
    rows = []
    for name in sorted({*wanted, *actual}, key=lambda each: (actual.get(each, {}).get("priority", 0), each)):
        want, have = wanted.get(name, Queue(name)), actual.get(name, {})
        row = PoolRow(pool, name, name in wanted, want.concurrency_limit, have.get("concurrency_limit"))
        row = replace(row, priority_configured=want.priority, priority=have.get("priority"))
        rows.append(replace(row, status=str(have.get("status", "MISSING")), active_slots=slots.get(name, 0)))
    return rows
