"""Deployments on the VPS, and runs of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx

from .conftest import Docker


class Flows:
    """The deployments of tests/lab/flows.py, and runs of them."""

    def __init__(self, client: httpx.Client, docker: Docker, worker: str) -> None:
        """`worker` is its container, whose folder for data gets the file."""
        self.client = client
        source = (Path(__file__).with_name("flows.py")).read_text()
        docker("exec", "-i", worker, "sh", "-c", "cat >/var/lib/platform/flows.py", stdin=source)
        self.deployments = {name: self._deploy(name) for name in ("quick", "slow", "holding")}

    def _deploy(self, name: str) -> str:
        body = {
            "name": name,
            "flow_id": self.post("/flows/", {"name": name})["id"],
            "work_pool_name": "default",
            "path": "/var/lib/platform",
            "entrypoint": f"flows.py:{name}",
            "pull_steps": [
                {"prefect.deployments.steps.set_working_directory": {"directory": "/var/lib/platform"}}
            ],
        }
        return str(self.post("/deployments/", body)["id"])

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """As Prefect's own client does it, which asks again after a 503: that is what a server says whose database is just away."""
        end = time.monotonic() + 60
        while (answer := self.client.post(path, json=body)).status_code == 503 and time.monotonic() < end:
            time.sleep(1)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def start(self, name: str, **parameters: Any) -> str:
        path = f"/deployments/{self.deployments[name]}/create_flow_run"
        return str(self.post(path, {"parameters": parameters})["id"])

    def state(self, run: str) -> str:
        found = self.client.get(f"/flow_runs/{run}").raise_for_status().json()
        return str(found["state"]["type"])

    def heartbeats(self, run: str) -> int:
        wanted = {
            "event": {"name": ["prefect.flow-run.heartbeat"]},
            "resource": {"id": [f"prefect.flow-run.{run}"]},
        }
        return len(self.post("/events/filter", {"filter": wanted})["events"])

    def slots(self, limit: str) -> int:
        found = self.client.get(f"/v2/concurrency_limits/{limit}").raise_for_status().json()
        return int(found["active_slots"])
