"""Do deferred task runs (`task.delay()`) reach their task workers? Prefect hands them out from the memory of its server, which can lose them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prefect_platform.errors import CheckFailed
from prefect_platform.provisioning.prefect.api import Json, PrefectApi
from prefect_platform.provisioning.prefect.heartbeat import seconds_since

WAITED_SECONDS = 300.0
_LOOKED_AT = 200
_TAKEN = ("PENDING", "RUNNING")


def deferred(api: PrefectApi, waited: float = WAITED_SECONDS) -> str:
    """No deferred task run waits for minutes while a task worker that could take it has none. Raises CheckFailed, ApiError.

    Where none is connected, or all are busy, they wait as they should: the text counts them. The oldest two hundred are looked at.
    """
    waiting = [each for each in _in_state(api, "SCHEDULED") if _waits(each, waited)]
    if not waiting:
        return f"none waits for more than {waited / 60:g} min"
    served = {key for worker in api.task_workers() for key in worker["task_keys"]}
    taken = {each["task_key"] for each in _in_state(api, *_TAKEN)}
    if lost := [each for each in waiting if each["task_key"] in served - taken]:
        raise CheckFailed(
            f"{_counted(lost)} Scheduled for more than {waited / 60:g} min, and the task worker that is connected gets none of them: "
            "the server has lost them from its queue",
            "./invoke prefect.restart --service server puts them back",
        )
    nobody = [each for each in waiting if each["task_key"] not in served]
    busy = [each for each in waiting if each["task_key"] in served]
    texts = [f"{_counted(nobody)} wait: no task worker serves them"] if nobody else []
    return "; ".join([*texts, f"{_counted(busy)} wait: their task workers are busy"] if busy else texts)


def _in_state(api: PrefectApi, *types: str) -> list[Json]:
    wanted = {"state": {"type": {"any_": [*types]}}}
    return api.task_runs({"task_runs": wanted, "sort": "EXPECTED_START_TIME_ASC", "limit": _LOOKED_AT})


def _waits(run: Json, waited: float) -> bool:
    state = run["state"] or {}
    is_deferred = bool((state.get("state_details") or {}).get("deferred"))
    return is_deferred and seconds_since(state["timestamp"]) > waited


def _counted(runs: Iterable[Json]) -> str:
    """`3 deferred task runs of send_mail, 1 of resize`: a key is `<name>-<hash>`, or has its module before it."""
    names = Counter(str(each["task_key"]).rpartition("-")[0] or str(each["task_key"]) for each in runs)
    (first, number), *rest = names.most_common()
    plural = "" if number == 1 else "s"
    return ", ".join(
        [f"{number} deferred task run{plural} of {first}", *(f"{n} of {name}" for name, n in rest)]
    )
