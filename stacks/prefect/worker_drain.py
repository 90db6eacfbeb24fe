"""Prefect's process worker with a drain: what it overrides. The steps of a stop are in worker_stop.py.

`DrainingWorker` overrides the public `run`, `get_and_submit_flow_runs` and `sync_with_backend`, and four
private methods that have no public counterpart: `_submit_scheduled_flow_runs`, which takes what the server
hands out, `_propose_pending_state`, where a run is claimed, `_submit_run_and_capture_errors`, the whole
life of a claimed run, and `_propose_crashed_state`, its end by an error. `unsupported_reason` guards those.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import prefect
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker
from worker_ends import noted

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

KNOWN_PREFECT_VERSIONS = frozenset({"3.8.8"})
"""Versions on which the drain tests of this project have run."""

SEEK_SECONDS = 0.5
"""Between looks for a work pool that is not there yet."""
_PRIVATE = (
    "_submit_scheduled_flow_runs",
    "_propose_pending_state",
    "_submit_run_and_capture_errors",
    "_propose_crashed_state",
)


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

    async def _propose_crashed_state(self, flow_run: FlowRun, message: str, client: Any = None) -> None:
        if self.ends is None or not noted(self.ends, flow_run.id):
            await super()._propose_crashed_state(flow_run, message, client)

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
