"""Deferred task runs (`task.delay()`) of before this start, put back into the queue from which task workers get them.

Prefect 3.8.8 keeps that queue in the memory of the server's process (prefect.server.task_queue): what waited in it at a stop stays
Scheduled for good (PrefectHQ/prefect#21218). The database has all of them.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect.server.schemas.core import TaskRun

SETTLE_SECONDS = 40.0
"""What a task worker took before the stop is Scheduled in the database until its event arrives, which the worker sends again within
30 s of the server's return. Put back before, it would run twice."""
PAGE = 200
RETRY_SECONDS = 10.0


_running: set[asyncio.Task[None]] = set()
"""The loop itself keeps no task alive."""


def begin(settle: float | None) -> None:
    """In the running loop, which ends it with itself. `settle`: None means SETTLE_SECONDS, a negative number not at all."""
    seconds = SETTLE_SECONDS if settle is None else settle
    if seconds >= 0:
        task = asyncio.get_running_loop().create_task(put_back(datetime.now(UTC), seconds))
        _running.add(task)
        task.add_done_callback(_running.discard)


async def put_back(before: datetime, settle: float) -> None:
    """Enqueue what was deferred `before` this start and has not been taken, oldest first."""
    import sqlalchemy.exc
    from prefect.server.task_queue import TaskQueue

    await asyncio.sleep(settle)
    while True:
        try:
            waiting = [run for run in await _scheduled() if _is_deferred(run, before)]
            break
        except (sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError) as error:
            _say(
                f"cannot read the deferred task runs yet ({type(error).__name__}); trying again in {RETRY_SECONDS:g} s"
            )
            await asyncio.sleep(RETRY_SECONDS)
    if not waiting:
        return
    by_key: dict[str, list[TaskRun]] = defaultdict(list)
    for run in sorted(waiting, key=lambda each: each.state.timestamp if each.state else before):
        by_key[run.task_key].append(run)
    _say(f"{len(waiting)} deferred task run(s) of before this start wait again for a task worker")

    async def fill(runs: list[TaskRun]) -> None:
        for run in runs:
            await TaskQueue.enqueue(run)  # waits while the queue of its key is full

    await asyncio.gather(*(fill(runs) for runs in by_key.values()))


async def _scheduled() -> list[TaskRun]:
    from prefect.server import models
    from prefect.server.database import provide_database_interface
    from prefect.server.schemas.core import TaskRun
    from prefect.server.schemas.filters import TaskRunFilter, TaskRunFilterState, TaskRunFilterStateType
    from prefect.server.schemas.states import StateType

    read: Any = models.task_runs.read_task_runs  # its decorator hides from types that it is awaited
    wanted = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.SCHEDULED])))
    found: list[TaskRun] = []
    async with provide_database_interface().session_context() as session:
        while True:
            page = await read(session=session, task_run_filter=wanted, limit=PAGE, offset=len(found))
            found += [TaskRun.model_validate(each, from_attributes=True) for each in page]
            if len(page) < PAGE:
                return found


def _is_deferred(run: TaskRun, before: datetime) -> bool:
    return bool(run.state and run.state.state_details.deferred and run.state.timestamp < before)


def _say(text: str) -> None:
    print(f"server.py: {text}", file=sys.stderr, flush=True)
