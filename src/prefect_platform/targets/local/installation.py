"""An installation on this machine: its folders, its supervisord, what is written down. Shared by all that the local target does."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect_platform.config.settings import Settings
from prefect_platform.planning.stop_order import stop_order
from prefect_platform.secretstore.file_store import FileStore
from prefect_platform.targets import launched
from prefect_platform.targets.protocol import Say

from . import preflight, processes, records
from .supervisord import Supervisor


class Installation:
    """State: run/ (supervisord), stacks/ (rendered), data/, logs/, secrets/, services.json (what was started)."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self.settings = settings
        self.say = say
        self.state = settings.state
        self.lock_file = settings.root / "requirements" / "runtime.txt"
        self.runtime = hashlib.sha256(preflight.read_runtime_lock(self.lock_file)).hexdigest()[:12]
        self.venv = self.state.parent / "runtime" / self.runtime
        self.python = self.venv / "bin" / "python"
        self.traefik = self.venv / "bin" / "traefik"
        self.template = self.venv / "prefect-template.db"
        self.store = FileStore(self.state / "secrets")
        self.supervisor = Supervisor(self.state, self.python)

    def records(self) -> dict[str, Any]:
        """Service → what it was started with."""
        return records.read(self.state / "services.json")

    def record(self, name: str, record: Mapping[str, Any] | None) -> None:
        records.write(self.state / "services.json", name, record)

    def begin(self, name: str) -> None:
        """It is started on request, with what it had: how often it ended before that is no longer held against it."""
        if record := self.records().get(name):
            self.record(name, {**record, "since": time.time()})

    def stop_seconds(self) -> dict[str, int]:
        """Service → how long its stop may take."""
        return {name: record["facts"]["stop_seconds"] for name, record in self.records().items()}

    def identity(self, name: str) -> tuple[str, str]:
        """(stack, service) of a program; its name alone when nothing is recorded of it."""
        facts = self.records().get(name, {}).get("facts", {})
        return facts.get("stack", ""), facts.get("name", name)

    def launched(self, name: str, since: float) -> str:
        """What its launcher says of the Prefect that it started, if it said so at this start."""
        file = self.records().get(name, {}).get("facts", {}).get("environment", {}).get(launched.FILE)
        # supervisord counts whole seconds.
        return launched.read(Path(file), since) if file else ""

    def in_stop_order(self, names: Sequence[str]) -> list[str]:
        """Dependents before what they depend on; else as given."""
        records = self.records()
        after = {
            name: [f"{facts['stack']}-{each}" for each in facts["after"]]
            if (facts := records.get(name, {}).get("facts"))
            else []
            for name in names
        }
        return [name for group in stop_order(after) for name in group]

    def judged(self) -> list[tuple[dict[str, Any], tuple[str, str]]]:
        """(supervisord's word, (state, cause)) of every program."""
        since = {name: record.get("since", 0) for name, record in self.records().items()}
        ends = processes.unasked_ends(self.state / "logs" / "supervisord.log", since)
        infos = self.supervisor.processes()
        return [(info, processes.judge(info, ends.get(info["name"], []))) for info in infos]
