"""A plugin of Prefect's in the processes of our workers' flow runs: notes how the run ended until the server knows it.

A server that is away when a flow reaches its last line never hears of it if the process ends before the server is
back: a reboot stops both. What was to be reported lies in a file of the worker's then, and the worker reports it
(`worker_ends`). And once a run has ended, that its end could not be reported does not change it.

Prefect finds it by its entry point (`prefect.plugins`), in a folder that the worker puts on PYTHONPATH.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import prefect
from prefect.plugins import register_hook

KNOWN_PREFECT_VERSIONS = frozenset({"3.8.8"})
"""Versions on which the tests of this module have run."""
FOLDER = "PLATFORM_ENDS"
_RUN = "PREFECT__FLOW_RUN_ID"


@register_hook
def setup_environment(*, ctx: Any) -> None:
    """Prefect calls it when it is imported. Only the process of a flow run of ours is concerned."""
    folder, run = os.environ.get(FOLDER), os.environ.get(_RUN)
    engine = (
        "prefect.engine" in sys.orig_argv
    )  # not what prepares its workspace, nor what the flow itself starts
    if folder and run and engine and prefect.__version__ in KNOWN_PREFECT_VERSIONS:
        _watch(Ends(Path(folder), run))


class Ends:
    """The end of this process's flow run, from when it is known until it is reported."""

    def __init__(self, folder: Path, run: str) -> None:
        self._path = folder / f"{run}.json"
        self._run = run
        self._first: Any = None

    def about_to_report(self, engine: Any, state: Any) -> Any:
        """The state to report instead of this one: the first final one, as what follows a report that failed is no news of the run."""
        if str(engine.flow_run.id) != self._run or not state.is_final():
            return state
        if self._first is None:
            self._first = state
            known = {
                "type": state.type.value,
                "name": state.name,
                "message": state.message,
                "timestamp": state.timestamp.isoformat(),
            }
            draft = self._path.with_suffix(".new")
            draft.write_text(json.dumps(known))
            draft.replace(self._path)
        return self._first

    def reported(self, engine: Any) -> None:
        """The server has it, or gave another state instead."""
        if str(engine.flow_run.id) == self._run:
            self._first = None
            self._path.unlink(missing_ok=True)


def _watch(ends: Ends) -> None:
    from prefect.flow_engine import AsyncFlowRunEngine, FlowRunEngine

    of_sync, of_async = FlowRunEngine.set_state, AsyncFlowRunEngine.set_state

    def set_state(self: Any, state: Any, force: bool = False) -> Any:
        result = of_sync(self, ends.about_to_report(self, state), force=force)
        ends.reported(self)
        return result

    async def set_state_async(self: Any, state: Any, force: bool = False) -> Any:
        result = await of_async(self, ends.about_to_report(self, state), force=force)
        ends.reported(self)
        return result

    FlowRunEngine.set_state = set_state  # type: ignore[method-assign]
    AsyncFlowRunEngine.set_state = set_state_async  # type: ignore[method-assign]
