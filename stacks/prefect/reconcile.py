"""End what has ended: a background service beside Prefect's own, wherever those run.

Each look, every PERIOD_SECONDS,

- ends as Crashed a run whose process had sent heartbeats and has stopped (`run_verdicts`), which frees its slots,
  and takes that back if its heartbeats return;
- gives task runs that were left unfinished in an ended flow run their end: the one that the events have, or
  else their flow run's;
- frees slots of deployments and tags that belong to no lease any more.

Everything is read from the database anew, so that a look that was interrupted is simply done again. On a Prefect
version that has not been tested nothing is registered, with a warning.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
from run_verdicts import OUTAGE_SECONDS, Held, Watch, leaked, patience

KNOWN_PREFECT_VERSIONS = frozenset({"3.8.8"})
"""Versions on which the tests of this module have run."""

PERIOD_SECONDS = float(os.environ.get("PLATFORM_RECONCILE_SECONDS", "20"))
OUTAGE = float(os.environ.get("PLATFORM_RECONCILE_OUTAGE", str(OUTAGE_SECONDS)))
"""Shorter in tests only."""
LOOKS = 6
"""In so many looks one after the other must slots be without a lease."""
EVENT = "platform.reconciler.asked"
RESOURCE = "platform.reconciler"


def register(api: str) -> None:
    """Have Prefect's background services run ours; `api` is where its API answers on this machine."""
    reason = unsupported_reason()
    if reason is not None:
        say(f"{reason}: runs whose process has died are left to Prefect")
        return
    import reconcile_database as database
    from docket import Perpetual
    from prefect.server.services.perpetual_services import perpetual_service

    reconciler = Reconciler(api, database)

    async def reconcile_runs(
        perpetual: Perpetual = Perpetual(automatic=True, every=timedelta(seconds=PERIOD_SECONDS)),  # noqa: B008
    ) -> None:
        await reconciler.look()

    perpetual_service(enabled_getter=lambda: True)(reconcile_runs)


def unsupported_reason() -> str | None:
    """Why this Prefect must not be extended, or None when it looks as expected."""
    import prefect

    if prefect.__version__ not in KNOWN_PREFECT_VERSIONS:
        known = ", ".join(sorted(KNOWN_PREFECT_VERSIONS))
        return f"Prefect {prefect.__version__} is not one of the tested versions ({known})"
    try:
        import reconcile_database  # noqa: F401
        from docket import Perpetual  # noqa: F401
        from prefect.server.services.perpetual_services import perpetual_service  # noqa: F401
    except ImportError as error:
        return f"this Prefect has other background services ({error})"
    return None


def say(text: str) -> None:
    """Print one line to stderr."""
    print(f"reconcile.py: {text}", file=sys.stderr, flush=True)


class Reconciler:
    """What is remembered from look to look: since when we could have heard, and the slots of the last looks."""

    def __init__(self, api: str, database: Any) -> None:
        self._api = api
        self._database = database
        self._watch: Watch | None = None
        self._question: tuple[UUID, float] | None = None
        self._slots: deque[Mapping[str, Held]] = deque(maxlen=LOOKS)
        self._tasks_since = 0.0

    async def look(self) -> None:
        """Look once and mend what is found."""
        await self._end_dead_runs()
        await self._end_task_runs()
        await self._free_slots()

    async def _end_dead_runs(self) -> None:
        now = time.time()
        suspects = await self._database.suspects(now, OUTAGE)
        if not suspects:
            self._watch = self._question = None
        else:
            self._watch = await self._watched(self._watch or Watch.begun(now), now)
            for run in suspects:
                message = run.why_dead(now, self._watch, OUTAGE)
                if message and await self._database.end_run(run, message):
                    say(f"flow run {run.id}: {message}")
        for run_id in await self._database.revive(now):
            say(f"flow run {run_id}: its heartbeats came back, Running again")

    async def _watched(self, before: Watch, now: float) -> Watch:
        """Look for our question, and ask the next one when it was heard or is lost."""
        heard, lost = None, False
        if self._question is not None:
            ident, asked = self._question
            if await self._database.has_event(ident):
                heard, self._question = asked, None
            elif now - asked > patience(PERIOD_SECONDS):
                lost, self._question = True, None
        if self._question is None:
            self._question = await self._ask(now)
            lost = lost or self._question is None
        return before.again(now, PERIOD_SECONDS, heard, lost)

    async def _ask(self, now: float) -> tuple[UUID, float] | None:
        """Send an event the way clients do; whether it reaches the database later looks see. None if nobody took it."""
        question = uuid4()
        event = {
            "id": str(question),
            "occurred": datetime.fromtimestamp(now, UTC).isoformat(),
            "event": EVENT,
            "resource": {"prefect.resource.id": RESOURCE},
        }
        try:
            async with httpx.AsyncClient(timeout=5) as client:
                (await client.post(f"{self._api}/events", json=[event])).raise_for_status()
        except httpx.HTTPError:
            return None
        return question, now

    async def _end_task_runs(self) -> None:
        began = time.time()
        for task_run, end in await self._database.end_task_runs(self._tasks_since, began):
            say(f"task run {task_run}: {end}, as its flow run had ended")
        self._tasks_since = began

    async def _free_slots(self) -> None:
        self._slots.append(await self._database.held_slots())
        if len(self._slots) < LOOKS:
            return
        for name, slots in leaked(self._slots).items():
            await self._database.free(name, slots)
            self._slots.clear()
            say(f"limit {name}: {slots} slots belonged to no lease and are free again")
