"""Whether a work pool is too busy for one more run, and which runs keep it so."""

from __future__ import annotations

from collections.abc import Sequence

from prefect_platform.provisioning.prefect.api import Json, PrefectApi
from prefect_platform.provisioning.prefect.heartbeat import is_online

WITHDRAWN = "canary: withdrawn, the pool is busy"
HANDED_OUT = 200
"""Prefect 3.8.8 hands a worker so many runs of a queue at most, the oldest first."""
_NAMED = 3
_AT_WORK = {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}
_DUE = {"state": {"type": {"any_": ["SCHEDULED"]}, "name": {"any_": ["Late", "AwaitingConcurrencySlot"]}}}
_QUEUED = {"state": {"name": {"any_": ["AwaitingConcurrencySlot"]}}}


def withdrawn(run: Json) -> bool:
    """Whether this run was one of ours that found no slot."""
    state = run["state"]
    return state["type"] == "CANCELLED" and str(state.get("message") or "").startswith(WITHDRAWN)


def seen(api: PrefectApi, name: str, slots: int | None) -> str:
    """What keeps the pool busy, or an empty text if something else keeps a run from being taken. `slots` are those of its workers."""
    pool = api.work_pool(name)
    if not pool or pool["is_paused"] or not any(is_online(each) for each in api.workers(name)):
        return ""
    of_pool = {"work_pools": {"name": {"any_": [name]}}}
    at_work = api.flow_runs({**of_pool, "flow_runs": _AT_WORK, "sort": "EXPECTED_START_TIME_ASC"})
    top = min((each for each in (pool["concurrency_limit"], slots) if each is not None), default=None)
    if top is None or len(at_work) < top:
        return ""
    waiting = api.count_flow_runs({**of_pool, "flow_runs": _DUE})
    first = api.flow_runs({**of_pool, "flow_runs": _DUE, "sort": "EXPECTED_START_TIME_ASC", "limit": _NAMED})
    text = f"busy: all {top} slots of pool {name} are taken ({_names(at_work, len(at_work))})"
    return f"{text}, {waiting} runs wait ({_names(first, waiting)})" if waiting else text


def starving(api: PrefectApi) -> str:
    """Pools in which runs start late because more than a worker is ever handed wait before them; empty when there are none."""
    found = []
    for pool in api.work_pools():
        of_pool = {"work_pools": {"name": {"any_": [pool["name"]]}}}
        queued = api.count_flow_runs({**of_pool, "flow_runs": _QUEUED})
        if queued >= HANDED_OUT:
            found.append(
                f"in pool {pool['name']} {queued} runs wait for a slot of their deployment (ENQUEUE): other runs of their queue start late"
            )
    return "; ".join(found)


def _names(runs: Sequence[Json], number: int) -> str:
    named = ", ".join(str(run["name"]) for run in runs[:_NAMED])
    return f"{named} and {number - _NAMED} more" if number > _NAMED else named
