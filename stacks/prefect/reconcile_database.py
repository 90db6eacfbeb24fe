"""What reconcile.py reads in Prefect's database, and the states it writes through Prefect's own rules."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from prefect.server import models
from prefect.server.concurrency.lease_storage import get_concurrency_lease_storage
from prefect.server.database import provide_database_interface
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.server.models.concurrency_limits_v2 import bulk_decrement_active_slots
from prefect.server.schemas.states import TERMINAL_STATES, State, StateType
from prefect.server.services.task_run_recorder import record_task_run_event
from run_verdicts import ENDED_BY_US, REVIVED, Beat, Held, Watch, is_alive_again, is_suspect, why_dead

# Prefect's decorator hides their types.
_read_flow_run: Any = models.flow_runs.read_flow_run
_decrement: Any = bulk_decrement_active_slots

HEARTBEAT = "prefect.flow-run.heartbeat"
LOOKED_BACK = 4
"""Heartbeats of a run that are read."""
SETTLED_SECONDS = float(os.environ.get("PLATFORM_RECONCILE_SETTLED", "120"))
"""So long after a flow run's end may the events of its task runs be under way."""
OVERLAP_SECONDS = 3600
OLDEST = timedelta(days=7)
PAGE = 200
OUR_LIMITS = ("deployment:", "tag:")
"""Slots of these are taken with a lease always. Those of other limits a REST client may take without one, and keep."""
_ENDS = ("Completed", "Cached", "RolledBack", "Failed", "TimedOut", "Crashed", "Cancelled")


@dataclass(frozen=True)
class Run:
    """A Running flow run and what it sent in this attempt, newest first."""

    id: UUID
    state_id: UUID
    since: float
    beats: tuple[Beat, ...]

    def why_dead(self, now: float, watch: Watch, outage: float) -> str:
        return why_dead(self.since, self.beats, now, watch, outage)


async def suspects(now: float, outage: float) -> list[Run]:
    """The runs that have been silent for long."""
    db = provide_database_interface()
    run = db.FlowRun
    found = []
    async with db.session_context() as session:
        query = sa.select(run.id, run.state_id, run.state_timestamp).where(
            run.state_type == StateType.RUNNING, run.state_timestamp < _moment(now - outage / 3)
        )
        for ident, state_id, since in (await session.execute(query)).all():
            beats = await _beats(db, session, ident, await _attempt_began(db, session, ident))
            if is_suspect(since.timestamp(), beats, now, outage):
                found.append(Run(ident, state_id, since.timestamp(), beats))
    return found


async def _attempt_began(db: Any, session: Any, ident: UUID) -> datetime:
    """When a worker claimed it last: heartbeats of an earlier attempt say nothing of who executes this one."""
    state = db.FlowRunState
    query = sa.select(sa.func.max(state.timestamp)).where(
        state.flow_run_id == ident, state.type == StateType.PENDING
    )
    began: datetime | None = (await session.execute(query)).scalar()
    return began or _moment(0)


async def _beats(db: Any, session: Any, ident: UUID, since: datetime) -> tuple[Beat, ...]:
    event = db.Event
    query = (
        sa.select(event.occurred, event.received)
        .where(event.event == HEARTBEAT, event.resource_id == f"prefect.flow-run.{ident}")
        .where(event.occurred >= since)
        .order_by(event.occurred.desc())
        .limit(LOOKED_BACK)
    )
    rows = (await session.execute(query)).all()
    return tuple(Beat(sent.timestamp(), received.timestamp()) for sent, received in rows)


async def has_event(ident: UUID) -> bool:
    db = provide_database_interface()
    async with db.session_context() as session:
        return (await session.execute(sa.select(db.Event.id).where(db.Event.id == ident))).first() is not None


async def end_run(run: Run, message: str) -> bool:
    """Crashed, unless its state has changed since it was read."""
    return await _set_state(run.id, run.state_id, State(type=StateType.CRASHED, message=message))


async def _set_state(ident: UUID, state_id: UUID, state: State) -> bool:
    db = provide_database_interface()
    async with db.session_context(begin_transaction=True, with_for_update=True) as session:
        found = await _read_flow_run(session, ident, for_update=True)
        if found is None or found.state_id != state_id:
            return False
        await models.flow_runs.set_flow_run_state(session, ident, state, force=True)
    return True


async def revive(now: float) -> list[UUID]:
    """Running again: those we ended within a day and that have sent a heartbeat since."""
    db = provide_database_interface()
    run, state = db.FlowRun, db.FlowRunState
    query = (
        sa.select(run.id, run.state_id, run.state_timestamp)
        .join(state, state.id == run.state_id)
        .where(run.state_type == StateType.CRASHED, run.state_timestamp > _moment(now - 86400))
        .where(state.message.startswith(ENDED_BY_US))
    )
    alive = []
    async with db.session_context() as session:
        for ident, state_id, ended in (await session.execute(query)).all():
            beats = await _beats(db, session, ident, ended - OLDEST)
            if is_alive_again(ended.timestamp(), beats):
                alive.append((ident, state_id))
    back = State(type=StateType.RUNNING, message=REVIVED)
    return [ident for ident, state_id in alive if await _set_state(ident, state_id, back)]


# -- task runs
async def end_task_runs(since: float, now: float) -> list[tuple[UUID, str]]:
    """Give the unfinished task runs of flow runs that ended `since` (and OVERLAP_SECONDS before) their end."""
    db = provide_database_interface()
    task, flow = db.TaskRun, db.FlowRun
    from_ = max(_moment(since - OVERLAP_SECONDS) if since else _moment(0), _moment(now) - OLDEST)
    query = (
        sa.select(task.id, flow.state_type, flow.end_time)
        .join(flow, flow.id == task.flow_run_id)
        .where(task.state_type.in_(set(StateType) - set(TERMINAL_STATES)))
        .where(flow.state_type.in_(TERMINAL_STATES))
        .where(flow.end_time > from_, flow.end_time < _moment(now - SETTLED_SECONDS))
    )
    async with db.session_context() as session:
        rows = (await session.execute(query)).all()
        deferred = await _deferred(db, session, [row[0] for row in rows])
    return [
        (ident, await _end_task_run(db, ident, end, moment))
        for ident, end, moment in rows
        if ident not in deferred
    ]


async def _deferred(db: Any, session: Any, idents: Sequence[UUID]) -> set[UUID]:
    """Those made by `task.delay()`: task workers execute them, whatever became of the flow run that asked for them."""
    state, found = db.TaskRunState, set()
    for start in range(0, len(idents), PAGE):
        query = sa.select(state.task_run_id, state.state_details).where(
            state.task_run_id.in_(idents[start : start + PAGE]), state.type == StateType.SCHEDULED
        )
        rows = (await session.execute(query)).all()
        found |= {ident for ident, details in rows if details and details.deferred}
    return found


async def _end_task_run(db: Any, ident: UUID, end: StateType, moment: datetime) -> str:
    """What its own events say of its end, if they were recorded and only their evaluation was lost; else its flow run's end."""
    event = db.Event
    query = (
        sa.select(event)
        .where(event.event.in_([f"prefect.task-run.{name}" for name in _ENDS]))
        .where(event.resource_id == f"prefect.task-run.{ident}")
        .order_by(event.occurred.desc())
        .limit(1)
    )
    async with db.session_context() as session:
        found = (await session.execute(query)).scalar()
    if found is not None:
        await record_task_run_event(ReceivedEvent.model_validate(found, from_attributes=True))
        if await _is_ended(db, ident):
            return str(found.event.rpartition(".")[2])
    name = end.value.capitalize()
    message = f"{ENDED_BY_US}its flow run {name}, and nothing more of it was recorded."
    async with db.session_context(begin_transaction=True, with_for_update=True) as session:
        state = State.model_validate({"type": end, "name": name, "message": message, "timestamp": moment})
        await models.task_runs.set_task_run_state(session, ident, state, force=True)
    return name


async def _is_ended(db: Any, ident: UUID) -> bool:
    async with db.session_context() as session:
        query = sa.select(db.TaskRun.state_type).where(db.TaskRun.id == ident)
        return (await session.execute(query)).scalar() in TERMINAL_STATES


# -- slots
async def held_slots() -> dict[str, Held]:
    """Taken and leased slots of the limits that Prefect makes itself, by name; those of which some are taken.

    The leases are read before the counters and after them: one that exists while the counter is read is seen, however many come
    and go.
    """
    db = provide_database_interface()
    limit = db.ConcurrencyLimitV2
    ours = sa.or_(*(limit.name.startswith(prefix) for prefix in OUR_LIMITS))
    query = sa.select(limit.id, limit.name, limit.active_slots).where(limit.active_slots > 0, ours)
    async with db.session_context() as session:
        if (await session.execute(query)).first() is None:
            return {}
    leases = await _leases()
    async with db.session_context() as session:
        rows = (await session.execute(query)).all()
    leases |= await _leases()
    leased = Counter({ident: 0 for ident, _, _ in rows})
    for resources, slots in leases.values():
        leased.update(dict.fromkeys(resources, slots))
    return {name: Held(taken, leased[ident]) for ident, name, taken in rows}


async def _leases() -> dict[UUID, tuple[tuple[UUID, ...], int]]:
    """The limits and the slots of each. Expired leases count: Prefect's repossessor takes those back, slots and all."""
    storage = get_concurrency_lease_storage()
    active: list[UUID] = []
    while page := await storage.read_active_lease_ids(limit=PAGE, offset=len(active)):
        active += page
    found = {}
    for ident in {*active, *await storage.read_expired_lease_ids(limit=10_000)}:
        lease = await storage.read_lease(ident)
        if lease is not None and lease.metadata is not None:
            found[ident] = (tuple(lease.resource_ids), lease.metadata.slots)
    return found


async def free(name: str, slots: int) -> None:
    db = provide_database_interface()
    async with db.session_context(begin_transaction=True) as session:
        query = sa.select(db.ConcurrencyLimitV2.id).where(db.ConcurrencyLimitV2.name == name)
        ident = (await session.execute(query)).scalar_one()
        await _decrement(session=session, concurrency_limit_ids=[ident], slots=slots)


def _moment(unix: float) -> datetime:
    return datetime.fromtimestamp(unix, UTC)
