"""The steps of a worker's stop: drain, then end what is left in a true state."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import httpx
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed, Scheduled
from worker_drain import say
from worker_ends import note, settle

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State
    from worker_drain import Attempt, DrainingWorker

PROGRESS_SECONDS = 10.0
REPORT_SECONDS = 30.0
ALONE_SECONDS = 20.0
"""A drain without an API can tell nobody how a run ends: after this long the whole host is going down, not the server alone."""
ASK_SECONDS = 3.0


class Stop:
    """The steps of a stop: `request` at each signal, `run` beside the worker."""

    def __init__(self, worker: DrainingWorker, *, drain_seconds: float, kill_seconds: float) -> None:
        self._worker = worker
        self._drain_seconds = drain_seconds
        self._kill_seconds = kill_seconds
        self._requested = asyncio.Event()
        self._at_once = asyncio.Event()
        self._alone = False

    def request(self) -> None:
        """Note a signal: the first one drains, the next one stops now."""
        if self._requested.is_set():
            self._at_once.set()
        self._worker.draining = True
        self._requested.set()

    async def run(self) -> bool:
        """Wait for the first signal, then drain; return whether every run was left in a true state."""
        await self._requested.wait()
        attempts = self._worker.attempts
        say(f"draining: no new runs; waiting up to {self._drain_seconds:g} s for {len(attempts)} flow run(s)")
        await self._drain()
        if not attempts:
            return True
        self._worker.halted = True
        left = list(attempts.values())
        why = "at a second signal" if self._at_once.is_set() else f"after {self._drain_seconds:g} s"
        why = f"as the API has been away for {ALONE_SECONDS:g} s" if self._alone else why
        say(f"stopping {len(left)} flow run(s) {why}: {', '.join(str(item.flow_run.id) for item in left)}")
        await self._kill()
        return await self._report(left)

    async def _drain(self) -> None:
        deadline = time.monotonic() + self._drain_seconds
        said = time.monotonic()
        asking = asyncio.create_task(self._watch_api())
        try:
            while self._worker.attempts and not self._ends_now() and time.monotonic() < deadline:
                if time.monotonic() - said >= PROGRESS_SECONDS:
                    said = time.monotonic()
                    say(
                        f"waiting for {len(self._worker.attempts)} flow run(s), {deadline - said:.0f} s at most"
                    )
                await asyncio.sleep(0.1)
        finally:
            asking.cancel()

    def _ends_now(self) -> bool:
        return self._at_once.is_set() or self._alone

    async def _watch_api(self) -> None:
        """Note when the API has not answered for ALONE_SECONDS."""
        answered = time.monotonic()
        while not self._alone:
            with contextlib.suppress(TimeoutError, httpx.HTTPError):
                async with asyncio.timeout(ASK_SECONDS):
                    if await self._worker.client.api_healthcheck() is None:
                        answered = time.monotonic()
            self._alone = time.monotonic() - answered > ALONE_SECONDS
            await asyncio.sleep(1)

    async def _kill(self) -> None:
        """SIGTERM, then SIGKILL. The worker reports each exit itself (CRASHED) when it sees it."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            signalled: set[int] = set()
            deadline = time.monotonic() + self._kill_seconds
            while (started := self._started()) and time.monotonic() < deadline:
                for pid in {attempt.pid for attempt in started if attempt.pid is not None} - signalled:
                    signalled.add(pid)
                    _signal_process(pid, number)
                await asyncio.sleep(0.1)

    def _started(self) -> list[Attempt]:
        return [attempt for attempt in self._worker.attempts.values() if attempt.starting]

    async def _report(self, attempts: list[Attempt]) -> bool:
        """Put right what still has no final state. False when the API could not be told within 30 s."""
        try:
            async with asyncio.timeout(ASK_SECONDS if self._alone else REPORT_SECONDS):
                for attempt in attempts:
                    await self._settle(attempt)
        except (TimeoutError, httpx.HTTPError) as error:
            ids = ", ".join(str(attempt.flow_run.id) for attempt in attempts)
            say(
                f"could not report the state of stopped runs ({error!r}); the next start of this worker does: {ids}"
            )
            for attempt in attempts:
                self._note(attempt)
            return False
        return True

    async def _settle(self, attempt: Attempt) -> None:
        client, ends = self._worker.client, self._worker.ends
        if ends is not None and await settle(ends / f"{attempt.flow_run.id}.json", client):
            return
        with contextlib.suppress(ObjectNotFound):
            state = (await client.read_flow_run(attempt.flow_run.id)).state
            if state is None or state.is_final():
                return
            await client.set_flow_run_state(
                attempt.flow_run.id, _left(attempt, state.is_pending()), force=True
            )

    def _note(self, attempt: Attempt) -> None:
        if self._worker.ends is not None:
            note(self._worker.ends / f"{attempt.flow_run.id}.json", _left(attempt))


def _left(attempt: Attempt, pending: bool = True) -> State[Any]:
    """The state in which a stop leaves the run: handed back, if nothing of it has begun."""
    if pending and not attempt.starting and attempt.flow_run.deployment_id is not None:
        return Scheduled()
    return Crashed(message="The worker was stopped before the flow run had ended.")


def _signal_process(pid: int, number: signal.Signals) -> None:
    """Signal a flow with its children: Prefect gives it a process group unless the job sets a command."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
