"""A load of REST clients that create and finish flow runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx


@dataclass
class Outcome:
    """What happened to the requests: `errors` counts statuses >= 400 and names of transport errors."""

    requests: int = 0
    errors: Counter[str] = field(default_factory=Counter)


async def _post(
    client: httpx.AsyncClient, path: str, body: object, outcome: Outcome
) -> httpx.Response | None:
    outcome.requests += 1
    try:
        response = await client.post(path, json=body)
    except httpx.HTTPError as error:
        outcome.errors[type(error).__name__] += 1
        return None
    if response.status_code >= 400:
        outcome.errors[str(response.status_code)] += 1
        return None
    return response


async def _client(client: httpx.AsyncClient, flow_id: str, todo: Iterator[int], outcome: Outcome) -> None:
    for _ in todo:
        body = {"flow_id": flow_id, "state": {"type": "PENDING"}}
        created = await _post(client, "/flow_runs/", body, outcome)
        if created is None:
            continue
        for state in ("RUNNING", "COMPLETED"):
            path = f"/flow_runs/{created.json()['id']}/set_state"
            await _post(client, path, {"state": {"type": state}}, outcome)


async def _run(url: str, clients: int, runs: int) -> Outcome:
    outcome = Outcome()
    async with httpx.AsyncClient(base_url=url, timeout=90) as client:
        flow = await client.post("/flows/", json={"name": "load"})
        todo = iter(range(runs))
        await asyncio.gather(*(_client(client, flow.json()["id"], todo, outcome) for _ in range(clients)))
    return outcome


def flow_run_load(url: str, *, clients: int, runs: int) -> Outcome:
    """Create and finish `runs` flow runs with `clients` concurrent clients: three requests each, no retry."""
    return asyncio.run(_run(url, clients, runs))
