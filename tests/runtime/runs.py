"""Flow runs of one deployment, which sleep until they are told or killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from .conftest import Platform, wait_for

FLOWS = """
from __future__ import annotations

import os
import signal
import time

from prefect import flow


@flow
def sleeper(seconds: float, stubborn: bool = False, until: str = "") -> None:
    open(os.environ["PREFECT__FLOW_RUN_ID"] + ".begun", "w").close()
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not (until and os.path.exists(until)):
        time.sleep(0.1)
"""
FINAL = {"COMPLETED", "CRASHED", "CANCELLED", "FAILED"}


class Runs:
    """Creates and reads runs of one deployment over REST."""

    def __init__(self, platform: Platform) -> None:
        self.url = platform.url
        self.folder = folder = platform.folder / "flows"
        folder.mkdir(exist_ok=True)
        (folder / "flows.py").write_text(FLOWS)
        flow = self._post("/flows/", {"name": "sleeper"})["id"]
        step = {"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}
        body = {
            "name": "sleeper",
            "flow_id": flow,
            "entrypoint": "flows.py:sleeper",
            "work_pool_name": "tests",
            "pull_steps": [step],
            "enforce_parameter_schema": False,
        }
        self.deployment = self._post("/deployments/", body)["id"]

    def _post(self, path: str, body: Any) -> Any:
        return httpx.post(f"{self.url}{path}", json=body, verify=False).raise_for_status().json()

    def create(self, **parameters: Any) -> str:
        body = {"parameters": parameters}
        return str(self._post(f"/deployments/{self.deployment}/create_flow_run", body)["id"])

    def state(self, run: str) -> str:
        return str(httpx.get(f"{self.url}/flow_runs/{run}", verify=False).json()["state"]["type"])

    def process(self, run: str) -> Path:
        """Where the kernel shows the flow's process."""
        found = wait_for(
            lambda: httpx.get(f"{self.url}/flow_runs/{run}", verify=False).json()["infrastructure_pid"],
            "a pid",
        )
        return Path("/proc") / str(found)

    def wait(self, run: str, *states: str) -> str:
        return str(wait_for(lambda: (found := self.state(run)) in states and found, f"{states} of {run}"))

    def begun(self, run: str) -> None:
        """Wait until the flow's own code runs: for a while after a run is RUNNING its process still asks the server."""
        wait_for((self.folder / f"{run}.begun").exists, f"the first line of {run}")

    def reschedule(self, run: str) -> None:
        """As `Change state` of the UI does it."""
        body = {"state": {"type": "SCHEDULED"}, "force": True}
        httpx.post(f"{self.url}/flow_runs/{run}/set_state", json=body).raise_for_status()

    def cancel(self, run: str) -> None:
        body = {"state": {"type": "CANCELLING"}}
        httpx.post(f"{self.url}/flow_runs/{run}/set_state", json=body).raise_for_status()
