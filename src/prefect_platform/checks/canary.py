"""The canary: a flow with one task, run through the public route; run and task run must be recorded."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from prefect_platform.errors import CheckFailed
from prefect_platform.provisioning.prefect.api import ApiError, Json, PrefectApi
from prefect_platform.provisioning.prefect.heartbeat import is_online, seconds_since

from . import busy

POLL = 0.2
BUSY_AFTER = 30.0
# The task-run recorder writes in batches; a run is known as Completed a moment before its task run is.
RECORDED_WITHIN = 10.0
TERMINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
LOG_LINES = 5
SMOKE = "./invoke prefect.smoke runs a new one"
PAST = 20
"""So many ended runs are looked at for one that says something."""


def run(
    api: PrefectApi,
    flow: str,
    deployment: str,
    seconds: float,
    progress: Callable[[str], None],
    slots: int | None = None,
) -> str:
    """Create a run and wait at most `seconds`. Raises CheckFailed with the state, its message, the last log.

    When others hold all slots, those of the pool or the `slots` of its workers, the run is withdrawn and that is what is returned:
    it says nothing against a worker that it is at work.
    """
    found = _deployment(api, flow, deployment)
    start = time.monotonic()
    made = api.create_flow_run(str(found["id"]), f"canary-{uuid.uuid4()}")
    done, told = made, ""
    for until in (min(seconds, BUSY_AFTER), seconds):
        done = _wait(api, done, start + until, progress, told)
        told = done["state"]["name"]
        if done["state"]["type"] == "SCHEDULED" and (full := busy.seen(api, found["work_pool_name"], slots)):
            api.cancel_flow_run(done["id"], f"{busy.WITHDRAWN}: {full}")
            return f"{full}; the canary waited {time.monotonic() - start:.0f} s for a slot and was withdrawn"
    if done["state"]["type"] not in TERMINAL:
        raise _not_taken(api, found, done, seconds)
    if done["state"]["type"] != "COMPLETED":
        raise _failed(api, done)
    completed = time.monotonic() - start
    _wait_for_task_run(api, done)
    where = f"run {done['name']} ({done['id']})"
    return f"{where} Completed in {completed:.1f} s{_parts(done)}, its task run is recorded"


def last(api: PrefectApi, flow: str, deployment: str) -> str:
    """State and age of the newest ended run that was not withdrawn from a busy pool. Raises CheckFailed if it is not Completed or there
    is none.
    """
    found = _deployment(api, flow, deployment)
    ended = {"deployment_id": {"any_": [found["id"]]}, "state": {"type": {"any_": sorted(TERMINAL)}}}
    runs = api.flow_runs({"flow_runs": ended, "sort": "END_TIME_DESC", "limit": PAST})
    newest = next((each for each in runs if not busy.withdrawn(each)), None)
    if newest is None:
        if runs:
            return f"the pool has been too busy for a canary run: {runs[0]['state']['message']}"
        raise CheckFailed("no canary run has finished yet", SMOKE)
    age = seconds_since(newest["end_time"] or newest["state"]["timestamp"])
    text = f"run {newest['name']} {newest['state']['name']} {_ago(age)} ago"
    if newest["state"]["type"] != "COMPLETED":
        raise CheckFailed(f"{text}: {newest['state'].get('message') or 'no message'}", SMOKE)
    return text


def _deployment(api: PrefectApi, flow: str, deployment: str) -> Json:
    found = api.deployment(flow, deployment)
    if found is None:
        raise CheckFailed(f"deployment {flow}/{deployment} does not exist", "./invoke prefect.setup")
    return found


def _wait(api: PrefectApi, made: Json, deadline: float, progress: Callable[[str], None], told: str) -> Json:
    run = made
    while True:
        if run["state"]["name"] != told:
            told = run["state"]["name"]
            progress(f"canary {run['name']}: {told}")
        if run["state"]["type"] in TERMINAL or time.monotonic() > deadline:
            return run
        time.sleep(POLL)
        run = _patiently(lambda: api.flow_run(made["id"]), deadline) or run


def _patiently(ask: Callable[[], Json | int], deadline: float) -> Any:
    """A busy API may be too slow for one request: repeat it until the deadline."""
    try:
        return ask()
    except ApiError as error:
        if error.status is not None or time.monotonic() > deadline:
            raise
        return None


def _wait_for_task_run(api: PrefectApi, run: Json) -> None:
    deadline = time.monotonic() + RECORDED_WITHIN
    while not _patiently(lambda: api.completed_task_runs(run["id"]), deadline):
        if time.monotonic() > deadline:
            raise CheckFailed(
                f"run {run['name']} ({run['id']}) Completed, but its task run was not recorded "
                f"within {RECORDED_WITHIN:g} s: the worker's events do not reach the server",
                "the worker needs PREFECT_CLIENT_CUSTOM_HEADERS (an API key does not reach the event socket)",
            )
        time.sleep(POLL)


def _not_taken(api: PrefectApi, deployment: Json, run: Json, seconds: float) -> CheckFailed:
    """A run that has not finished. If no worker picked it up, it is cancelled, or it could start days later."""
    name = deployment["work_pool_name"]
    where = f"run {run['name']} ({run['id']}) is {run['state']['name']} after {seconds:g} s"
    if run["state"]["type"] != "SCHEDULED":
        return CheckFailed(
            f"{where}; {_log(api, run)}",
            "it may still finish; otherwise ./invoke prefect.logs --service worker",
        )
    api.cancel_flow_run(run["id"], "canary: no worker picked up this run in time")
    pool = api.work_pool(name)
    online = sum(is_online(worker) for worker in api.workers(name)) if pool else 0
    state = f"is {pool['status']} with {online} workers online" if pool else "does not exist"
    limit = (
        f", {pool['active_slots'] or 0} of {pool['concurrency_limit']} slots in use"
        if pool and online
        else ""
    )
    hint = f"resume pool {name}" if pool and pool["is_paused"] else "./invoke prefect.logs --service worker"
    return CheckFailed(f"{where}: no worker picked it up; pool {name} {state}{limit}", hint)


def _failed(api: PrefectApi, run: Json) -> CheckFailed:
    message = run["state"].get("message") or "no message"
    text = f"run {run['name']} ({run['id']}) {run['state']['name']}: {message}; {_log(api, run)}"
    return CheckFailed(text, "./invoke prefect.logs --service worker has the process's own output")


def _log(api: PrefectApi, run: Json) -> str:
    lines = api.last_logs(run["id"], LOG_LINES)
    return (
        "its last log lines:\n" + "\n".join(f"  {line.strip()}" for line in lines)
        if lines
        else "it wrote no log"
    )


def _parts(run: Json) -> str:
    return f" ({run['total_run_time']:.1f} s running)" if run.get("total_run_time") else ""


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
