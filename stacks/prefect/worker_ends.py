"""Ends of flow runs that their processes could not report: noted there (`flow_end`), reported here once the server answers."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Collection, MutableMapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.runner._state_proposer import StateProposer

PLUGIN = "prefect_platform_flow_end"
PERIOD_SECONDS = 5.0


def install(folder: Path, environ: MutableMapping[str, str]) -> Path:
    """Have the flow processes of this worker note their ends; returns where.

    Prefect's plugins are found like any package's: a folder on PYTHONPATH with a module and what says of its entry point.
    """
    ends, plugin = folder / "ends", folder / "plugin"
    about = plugin / f"{PLUGIN}-1.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # what lies in it is executed by every flow run
    for each in (ends, about):
        each.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(__file__).with_name("flow_end.py"), plugin / f"{PLUGIN}.py")
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PLUGIN}\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[prefect.plugins]\n{PLUGIN} = {PLUGIN}\n")
    path = environ.get("PYTHONPATH")
    environ["PYTHONPATH"] = f"{plugin}{os.pathsep}{path}" if path else str(plugin)
    environ["PLATFORM_ENDS"] = str(ends)
    if environ.get("PREFECT_PLUGINS_ENABLED", "").lower() not in ("1", "true"):
        # Nobody wanted plugins: ours, and none that happens to be installed.
        environ["PREFECT_PLUGINS_ENABLED"] = "true"
        environ["PREFECT_PLUGINS_ALLOW"] = PLUGIN
    return ends


def noted(ends: Path, run: UUID) -> bool:
    """Whether the run's process noted an end that is no crash: that it could not report it, and ended with an error, changes nothing."""
    try:
        return bool(json.loads((ends / f"{run}.json").read_text())["type"] != "CRASHED")
    except (OSError, ValueError):
        return False


def keep(ends: Path) -> None:
    """Have the runner in this worker believe the notes: it takes each process that ended with an error for a crashed run, and runs the hooks."""
    proposed = StateProposer.propose_crashed

    async def propose_crashed(self: Any, flow_run: FlowRun, message: str) -> State[Any] | None:
        return None if noted(ends, flow_run.id) else await proposed(self, flow_run, message)

    StateProposer.propose_crashed = propose_crashed  # type: ignore[method-assign]


async def report(ends: Path, client: PrefectClient, at_work: Collection[UUID]) -> None:
    """Report what lies there, again and again; not of runs that are still `at_work`: they do it themselves."""
    while True:
        for path in sorted(ends.glob("*.json")):
            with suppress(httpx.HTTPError):
                if UUID(path.stem) not in at_work:
                    await settle(path, client)
        await asyncio.sleep(PERIOD_SECONDS)


async def settle(path: Path, client: PrefectClient) -> bool:
    """Report one note and remove it; whether there was one. Raises httpx.HTTPError."""
    try:
        noted: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return False
    with suppress(ObjectNotFound):
        run = await client.read_flow_run(UUID(path.stem))
        if is_news(noted, run.state):
            await client.set_flow_run_state(run.id, State.model_validate(noted), force=True)
    path.unlink(missing_ok=True)
    return True


def note(path: Path, state: State[Any]) -> None:
    """Leave a note of a run whose process left none."""
    if path.exists():
        return
    known = state.model_dump(mode="json", include={"type", "name", "message", "timestamp", "state_details"})
    with suppress(OSError):
        path.write_text(json.dumps(known))


def is_news(noted: dict[str, Any], now: State[Any] | None) -> bool:
    """Whether the run has no end yet, or was taken for crashed when it had already ended."""
    if noted["type"] == "SCHEDULED":
        return now is not None and now.is_pending()
    if now is None or not now.is_final():
        return True
    return (
        now.is_crashed()
        and noted["type"] != "CRASHED"
        and now.timestamp > datetime.fromisoformat(noted["timestamp"])
    )
