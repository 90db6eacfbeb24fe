"""Who is crashed by the automation: nobody who lives, whatever the client, and everybody whose heartbeats have ended.

Time runs SCALE times faster: a client beats by its own clock, the automation's window is the platform's own.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from prefect.settings.models.flows import FlowsSettings

from prefect_platform.config import settings, stack
from prefect_platform.config.objects import HEARTBEAT, Zombies, desired
from prefect_platform.provisioning.prefect.api import PrefectApi
from prefect_platform.targets import traits

from .conftest import ROOT

SCALE = 45
"""Prefect refuses a window of less than 10 s."""
PREFECTS_OWN = FlowsSettings().heartbeat_frequency or 0
OURS = 30
OUTAGE = 140
"""Seconds for which a network may be cut, or a server frozen."""

pytestmark = pytest.mark.timeout(300)
Deed = tuple[float, str, str]
"""At this second arrives the heartbeat of second `word`, or the client changes its run's state to TYPE/`word`."""


def wanted(**prefect: Any) -> Zombies:
    """The automation of a platform with these settings."""
    schema = settings.platform_schema(
        {each.section: each.schema() for each in stack.read_all(ROOT).values()}, traits()
    )
    chosen = settings.load(ROOT, {"prefect": prefect}, schema, "local", {}, traits())
    zombies = desired(chosen, None).zombies
    assert zombies is not None
    return zombies


@pytest.mark.parametrize("own", [30, 60, 3600])
def test_the_window_holds_our_interval_prefects_default_and_an_outage(own: int) -> None:
    assert wanted(heartbeat_seconds=own).within >= max(own, PREFECTS_OWN) + OUTAGE + 60


def beats(every: float, until: float, late: Callable[[float], float] = lambda at: at) -> Iterator[Deed]:
    """A heartbeat each so often; `late`: when one of this second reaches the server."""
    for number in range(int(until / every) + 1):
        at = number * every
        yield late(at), "beat", str(at)


def cut(at: float) -> float:
    """What the client says while the network is cut comes after it. Cut just before Prefect's next default heartbeat."""
    return 170 + OUTAGE if 170 <= at < 170 + OUTAGE else at


END = 900.0
LIVING: dict[str, list[Deed]] = {
    "a worker of ours": list(beats(OURS, END)),
    "Prefect's default interval": list(beats(PREFECTS_OWN, END)),
    "ours, with its network cut": list(beats(OURS, END, cut)),
    "Prefect's default, with its network cut": list(beats(PREFECTS_OWN, END, cut)),
    "heartbeats off": [],
}
ELSEWHERE_NOW: dict[str, list[Deed]] = {
    "suspended until somebody resumes it": [*beats(OURS, 60), (70, "PAUSED", "Suspended")],
    "waiting for its next attempt": [*beats(OURS, 60), (70, "SCHEDULED", "AwaitingRetry")],
    "scheduled again by its worker's stop": [*beats(OURS, 60), (70, "SCHEDULED", "Scheduled")],
    "waiting for its infrastructure": [*beats(OURS, 60), (70, "PENDING", "InfrastructurePending")],
    "ended in a state of its own name": [*beats(OURS, 60), (70, "COMPLETED", "Skipped")],
}
DEAD: dict[str, list[Deed]] = {
    "died after its first heartbeat": [(0, "beat", "0")],
    "died after some": list(beats(OURS, 120)),
    "died with Prefect's default interval": list(beats(PREFECTS_OWN, 180)),
    "died in its second attempt": [
        *beats(OURS, 60),
        (70, "SCHEDULED", "AwaitingRetry"),
        (90, "RUNNING", "Retrying"),
        (91, "beat", "91"),
    ],
}


class Runs:
    """Flow runs of clients that exist by their requests only."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=f"{url}/prefect/api", timeout=60)
        flow = self._post("/flows/", {"name": "zombies"})["id"]
        deployment = self._post("/deployments/", {"name": "zombies", "flow_id": flow})["id"]
        self._body = {"flow_id": flow, "deployment_id": deployment, "state": {"type": "RUNNING"}}
        self.ids: dict[str, str] = {}

    def _post(self, path: str, body: Any) -> Any:
        answer = self.client.post(path, json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def start(self, name: str) -> None:
        self.ids[name] = self._post("/flow_runs/", {**self._body, "name": name})["id"]

    def beat(self, sent: Iterable[tuple[str, datetime]]) -> None:
        """A heartbeat of each of these clients, at its time."""
        events = [
            {
                "id": str(uuid.uuid4()),
                "event": HEARTBEAT,
                "occurred": occurred.isoformat(),
                "resource": {"prefect.resource.id": f"prefect.flow-run.{self.ids[name]}"},
            }
            for name, occurred in sent
        ]
        self._post("/events", events)

    def change(self, name: str, kind: str, word: str) -> None:
        body = {"state": {"type": kind, "name": word}, "force": True}
        self._post(f"/flow_runs/{self.ids[name]}/set_state", body)

    def crashed(self) -> set[str]:
        found = self._post("/flow_runs/filter", {"flow_runs": {"id": {"any_": [*self.ids.values()]}}})
        return {str(each["name"]) for each in found if each["state_type"] == "CRASHED"}

    def live(self, lives: dict[str, list[Deed]]) -> None:
        """All these lives at once. A busy machine is late with all of them, which Prefect's clock of events takes into account."""
        deeds = sorted((at, name, kind, word) for name, mine in lives.items() for at, kind, word in mine)
        began = datetime.now(UTC)
        for at, together in itertools.groupby(deeds, key=lambda deed: deed[0]):
            time.sleep(max(0.0, (began + timedelta(seconds=at / SCALE) - datetime.now(UTC)).total_seconds()))
            sent = []
            for _, name, kind, word in together:
                if kind != "beat":
                    self.change(name, kind, word)
                else:
                    sent.append((name, began + timedelta(seconds=float(word) / SCALE)))
            if sent:
                self.beat(sent)

    def forget(self) -> None:
        """What waits or is late would tell other tests something of the services."""
        for run in self.ids.values():
            self.client.delete(f"/flow_runs/{run}").raise_for_status()
        self.client.close()


@pytest.fixture
def runs(api: PrefectApi, server: str) -> Iterator[Runs]:
    zombies = wanted()
    within = max(10, zombies.within / SCALE)
    api.create_automation(Zombies(zombies.heartbeat, within, "scaled zombies").body())
    (automation,) = api.automations("scaled zombies")
    made = Runs(server)
    yield made
    made.forget()
    httpx.delete(f"{server}/prefect/api/automations/{automation['id']}").raise_for_status()


def test_the_living_are_not_crashed_and_the_dead_are(runs: Runs) -> None:
    lives = LIVING | ELSEWHERE_NOW | DEAD
    for name in lives:
        runs.start(name)
    runs.live(lives)
    deadline = time.monotonic() + 60
    while not runs.crashed() >= {*DEAD} and time.monotonic() < deadline:
        runs.beat((name, datetime.now(UTC)) for name in LIVING.keys() - {"heartbeats off"})
        time.sleep(OURS / SCALE)
    assert runs.crashed() == {*DEAD}
