"""Prefect's process worker with a drain: what it overrides, and the steps of a stop.

`DrainingWorker` overrides the public `run`, `get_and_submit_flow_runs` and `sync_with_backend`, and three
private methods that have no public counterpart: `_submit_scheduled_flow_runs`, which takes what the server
hands out, `_propose_pending_state`, where a run is claimed, and `_submit_run_and_capture_errors`, the whole
life of a claimed run. `unsupported_reason` guards those.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import prefect
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed, Scheduled
from prefect.workers.process import ProcessWorker
from worker_ends import note, settle

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

KNOWN_PREFECT_VERSIONS = frozenset({"3.8.8"})
"""Versions on which the drain tests of this project have run."""

PROGRESS_SECONDS = 10.0
REPORT_SECONDS = 30.0
ALONE_SECONDS = 20.0
"""A drain without an API can tell nobody how a run ends: after this long the whole host is going down, not the server alone."""
ASK_SECONDS = 3.0
SEEK_SECONDS = 0.5
"""Between looks for a work pool that is not there yet."""
_PRIVATE = ("_submit_scheduled_flow_runs", "_propose_pending_state", "_submit_run_and_capture_errors")


def unsupported_reason() -> str | None:
    """Return why this Prefect's worker must not be extended, or None when it looks as expected."""
    if prefect.__version__ not in KNOWN_PREFECT_VERSIONS:
        known = ", ".join(sorted(KNOWN_PREFECT_VERSIONS))
        return f"Prefect {prefect.__version__} is not one of the tested versions ({known})"
    missing = [name for name in _PRIVATE if not hasattr(ProcessWorker, name)]
    return f"ProcessWorker has no {', '.join(missing)}" if missing else None


def say(text: str) -> None:
    """Print one line to stderr."""
    print(f"worker.py: {text}", file=sys.stderr, flush=True)


@dataclass
class Attempt:
    """A claimed flow run: `starting` once it can no longer be handed back, `pid` once its process runs."""

    flow_run: FlowRun
    starting: bool = False
    pid: int | None = None


class _PidRecorder:
    """Stands between Prefect's task status and the worker to learn the process id."""

    def __init__(self, attempt: Attempt, inner: Any) -> None:
        self._attempt = attempt
        self._inner = inner

    def started(self, value: int | None = None) -> None:
        self._attempt.pid = value
        if self._inner is not None:
            self._inner.started(value)


class DrainingWorker(ProcessWorker, abc.ABC):  # ABC: Prefect then leaves the type "process" to its own class
    """A process worker that can stop claiming runs and knows which ones it still has."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.draining = False
        self.halted = False
        self.attempts: dict[UUID, Attempt] = {}
        self.ends: Path | None = None
        self._refused: set[UUID | None] = set()
        self._api_down_since: float | None = None
        self._seeking: asyncio.Task[None] | None = None

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        if self.draining:
            return []
        return await self._patiently(super().get_and_submit_flow_runs) or []

    async def sync_with_backend(self) -> None:
        await self._patiently(super().sync_with_backend)
        if self._work_pool is None and self._seeking is None:
            self._seeking = asyncio.create_task(self._seek_pool(super().sync_with_backend))

    async def _seek_pool(self, sync: Callable[[], Awaitable[None]]) -> None:
        """Prefect looks again only with its next heartbeat; a first setup, which makes the pool once the server answers, would wait for that."""
        while self._work_pool is None:
            await asyncio.sleep(SEEK_SECONDS)
            with contextlib.suppress(httpx.HTTPError, ObjectNotFound):
                await self.client.read_work_pool(self._work_pool_name)
                await sync()
        self._seeking = None

    async def run(self, flow_run: FlowRun, configuration: Any, task_status: Any = None) -> Any:
        attempt = self.attempts.setdefault(flow_run.id, Attempt(flow_run))
        if self.halted:
            # Too late to start it. Returning or raising would mark it as crashed; the stop hands it back
            # instead.
            await asyncio.Event().wait()
        attempt.starting = True
        return await super().run(flow_run, configuration, _PidRecorder(attempt, task_status))

    async def _submit_scheduled_flow_runs(self, flow_run_response: list[Any]) -> list[FlowRun]:
        # Stock takes a second slot for a run that still runs here, which is an error that ends the worker and every other run with
        # it; without a limit it runs it twice at once (Prefect 3.8.8; 3.9.1 catches the error).
        new = []
        for each in flow_run_response:
            if each.flow_run.id in self.attempts and each.flow_run.id not in self._submitting_flow_run_ids:
                self._refuse(each.flow_run)
            else:
                new.append(each)
        return await super()._submit_scheduled_flow_runs(new)

    def _refuse(self, flow_run: FlowRun) -> None:
        if flow_run.state_id in self._refused:
            return  # said already: the server hands it out at each question
        self._refused.add(flow_run.state_id)
        self.get_flow_run_logger(flow_run).warning(
            f"Flow run '{flow_run.id}' was scheduled again while it still runs here: not started a second time. "
            "It starts again after this attempt, unless this one ends in a final state."
        )

    async def _propose_pending_state(self, flow_run: FlowRun) -> bool:
        # Still SCHEDULED: left to another worker, or to this one after its restart.
        if self.draining:
            return False
        self.attempts[flow_run.id] = Attempt(flow_run)
        claimed = await super()._propose_pending_state(flow_run)
        if not claimed:
            self.attempts.pop(flow_run.id, None)
        return claimed

    async def _submit_run_and_capture_errors(self, flow_run: FlowRun, task_status: Any = None) -> Any:
        try:
            return await super()._submit_run_and_capture_errors(flow_run, task_status)
        finally:
            self.attempts.pop(flow_run.id, None)

    async def _patiently(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Stock ends the worker after some minutes without the API. Here it says so once and goes on."""
        try:
            result = await call()
        except httpx.HTTPError as error:
            if self._api_down_since is None:
                self._api_down_since = time.monotonic()
                say(f"the Prefect API does not answer ({_cause(error)}); trying again until it does")
            return None
        if self._api_down_since is not None:
            say(f"the Prefect API answers again after {time.monotonic() - self._api_down_since:.0f} s")
            self._api_down_since = None
        return result


def _cause(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"status {error.response.status_code}"
    return str(error) or type(error).__name__


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
