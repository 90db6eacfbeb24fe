"""A server that was away: who lives is not crashed at its return, and who died meanwhile is."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from prefect_platform.config.objects import HEARTBEAT, Zombies

from .conftest import Platform, wait_for

pytestmark = pytest.mark.timeout(300)
WINDOW = 10.0
LOOKS, SWEEPS = 1, 5
"""Seconds between looks at what has ended, and how long after its end Prefect 3.8.8 forgets a watch (if nothing is set, 5 and 60)."""


class Runs:
    """Flow runs of clients that exist by their requests only."""

    def __init__(self, url: str) -> None:
        self.url = url
        flow = self._post("/flows/", {"name": "watched"})["id"]
        self.ids = {
            name: self._post("/flow_runs/", {"flow_id": flow, "name": name, "state": {"type": "RUNNING"}})[
                "id"
            ]
            for name in ("living", "dead")
        }

    def _post(self, path: str, body: Any) -> Any:
        answer = httpx.post(self.url + path, json=body, timeout=60).raise_for_status()
        return answer.json() if answer.content else None

    def beat(self, *names: str) -> None:
        for name in names:
            event = {
                "id": str(uuid.uuid4()),
                "event": HEARTBEAT,
                "occurred": datetime.now(UTC).isoformat(),
                "resource": {"prefect.resource.id": f"prefect.flow-run.{self.ids[name]}"},
            }
            self._post("/events", [event])

    def state(self, name: str) -> str:
        return str(httpx.get(f"{self.url}/flow_runs/{self.ids[name]}", timeout=60).json()["state_type"])

    def watched(self) -> bool:
        """Whether the server has seen a heartbeat of each, by the events that it keeps."""
        found = self._post("/events/filter", {"filter": {"event": {"name": [HEARTBEAT]}}})
        return int(found["total"]) >= len(self.ids)


def test_after_an_absence_longer_than_the_window(platform: Platform, template: Path) -> None:
    serve = partial(
        platform.server,
        PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY=f"PT{LOOKS}S",
        PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER=f"PT{SWEEPS}S",
    )
    server = serve("--template", str(template))
    httpx.post(f"{platform.url}/automations/", json=Zombies(3, WINDOW).body()).raise_for_status()
    runs = Runs(platform.url)
    runs.beat("living", "dead")
    wait_for(runs.watched, "both are watched")
    server.stop()
    ended = time.monotonic()
    wait_for(
        lambda: time.monotonic() > ended + WINDOW + SWEEPS + LOOKS,
        "the window is over, and the watch may be swept",
    )
    serve()

    def both_known() -> bool:
        runs.beat("living")
        assert runs.state("living") == "RUNNING"
        return runs.state("dead") == "CRASHED"

    wait_for(both_known, "the dead one is crashed")
