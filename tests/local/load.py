"""Load on a platform through its public port: a steady mix of requests, and clients that finish flow runs. No request is ever repeated."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, cycle
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

RATE = 30
MIX = ("GET", "POST", "GET", "WS", "GET", "POST", "GET", "POST", "GET", "GET")
PATIENCE = 90
"""Seconds; twice as long as the gateway holds a request, so that it is always the platform that gives up."""

GETS = ("/api/admin/version", "/api/work_pools/default", "/api/ready", "/")
"""Below the path that Prefect is served under."""
FAILURES = (httpx.HTTPError, WebSocketException, OSError, ValueError)


class Refused(ValueError):
    """An answer, but not the one that was wanted."""


@dataclass(frozen=True)
class Outcome:
    """One request of a steady load, by the monotonic clock; `error` is empty when it was answered as it should."""

    name: str
    start: float
    end: float
    error: str


@dataclass(frozen=True)
class Finished:
    """What `finish_runs` did: the runs' flow, a line for each run that failed, and how long all took."""

    flow: str
    errors: tuple[str, ...]
    seconds: float


def steady(url: str, token: str, flow: str, seconds: int) -> list[Outcome]:
    """RATE requests a second, mixed as MIX says; each starts when it is due, however many still wait.

    `flow` is the name of the flow of which runs are created.
    """
    number = count(1)
    headers = {"Authorization": f"Bearer {token}"}
    return asyncio.run(_steady(f"{url}/prefect", headers, flow, RATE, lambda: next(number) > RATE * seconds))


def steady_until(
    url: str, headers: dict[str, str], flow: str, rate: int, ended: threading.Event
) -> list[Outcome]:
    """So many requests a second until the event; `url` includes the path that Prefect is served under."""
    return asyncio.run(_steady(url, headers, flow, rate, ended.is_set))


def finish_runs(url: str, headers: dict[str, str], clients: int, total: int) -> Finished:
    """Create and finish exactly `total` runs of a new flow, by so many clients at once; `url` is the API's."""
    return asyncio.run(_finish_runs(url, headers, clients, total))


async def _steady(
    url: str, headers: dict[str, str], flow: str, rate: int, ended: Callable[[], bool]
) -> list[Outcome]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=PATIENCE, limits=limits, trust_env=False
    ) as client:
        made = await client.post("/api/flows/", json={"name": flow})
        calls = _calls(client, _wanted(made)["id"])
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            tasks = []
            for number in count():
                if ended():
                    break
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                tasks.append(group.create_task(_timed(*next(calls))))
    return [task.result() for task in tasks]


def _calls(client: httpx.AsyncClient, flow: str) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
    """The endless mix, each request with its name."""
    gets = cycle(GETS)
    posts: Iterator[tuple[str, dict[str, Any]]] = cycle(
        [("filter", {"limit": 5}), ("", {"flow_id": flow, "state": {"type": "SCHEDULED"}})]
    )
    for number, method in zip(count(), cycle(MIX)):
        if method == "GET":
            path = next(gets)
            yield f"GET {path}", _get(client, path)
        elif method == "POST":
            action, body = next(posts)
            path = f"/api/flow_runs/{action}"
            yield f"POST {path}", _post(client, path, body)
        else:
            yield "WS /api/events/in", _emit(client, number)


async def _timed(name: str, call: Coroutine[Any, Any, None]) -> Outcome:
    start = time.monotonic()
    error = ""
    try:
        await call
    except FAILURES as failure:
        error = f"{type(failure).__name__}: {failure}"
    return Outcome(name, start, time.monotonic(), error)


async def _get(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    if not answer.is_success:
        raise _refused(answer)


async def _post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    _wanted(await client.post(path, json=body))


async def _emit(client: httpx.AsyncClient, number: int) -> None:
    """Connect as Prefect 3.8.8's clients do, emit one event, see the server alive, close."""
    async with connect(
        f"ws{str(client.base_url).removeprefix('http').rstrip('/')}/api/events/in",
        additional_headers={
            name: client.headers[name] for name in ("Authorization",) if name in client.headers
        },
        subprotocols=[Subprotocol("prefect")],
        open_timeout=PATIENCE,
        proxy=None,
    ) as socket:
        await socket.send(json.dumps({"type": "auth", "token": None}))
        reply = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE))
        if reply.get("type") != "auth_success":
            raise Refused(str(reply))
        await socket.send(json.dumps(_event(number)))
        await asyncio.wait_for(await socket.ping(), PATIENCE)


def _event(number: int) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "load.emitted",
        "resource": {"prefect.resource.id": f"load.{number}"},
    }


async def _finish_runs(url: str, headers: dict[str, str], clients: int, total: int) -> Finished:
    async with httpx.AsyncClient(headers=headers, timeout=PATIENCE, trust_env=False) as client:
        made = await client.post(f"{url}/flows/", json={"name": f"load-{uuid.uuid4().hex[:8]}"})
    flow: str = _wanted(made)["id"]
    todo = iter(range(total))
    began = time.monotonic()
    errors = await asyncio.gather(*(_client(url, headers, flow, todo) for _ in range(clients)))
    seconds = time.monotonic() - began
    return Finished(flow, tuple(line for lines in errors for line in lines), seconds)


async def _client(url: str, headers: dict[str, str], flow: str, todo: Iterator[int]) -> list[str]:
    """Finish one run after another as long as there are any, over a connection of its own."""
    errors = []
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE, trust_env=False) as client:
        for _ in todo:
            try:
                await _finish_run(client, flow)
            except FAILURES as failure:
                errors.append(f"{type(failure).__name__}: {failure}")
    return errors


async def _finish_run(client: httpx.AsyncClient, flow: str) -> None:
    made = await client.post("/flow_runs/", json={"flow_id": flow, "state": {"type": "RUNNING"}})
    body = {"state": {"type": "COMPLETED"}, "force": True}
    done = await client.post(f"/flow_runs/{_wanted(made)['id']}/set_state", json=body)
    if _wanted(done)["status"] != "ACCEPT":
        raise _refused(done)


def _wanted(answer: httpx.Response) -> Any:
    if not answer.is_success:
        raise _refused(answer)
    return answer.json()


def _refused(answer: httpx.Response) -> Refused:
    return Refused(f"{answer.status_code} {answer.text[:200]}")
