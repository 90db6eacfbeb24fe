"""A worker that ended by itself is started again by the target, and nobody would know: its successor tells the server.

A note in the worker's folder exists while it runs. Who finds one at the start has a predecessor that was not stopped:
it failed, and wrote why, or was killed. That the machine ended with it is no fault of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

EVENT = "platform.worker.ended"
KILLED = "killed (out of memory?)"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Note:
    """The note of the worker `name` in `folder`."""

    def __init__(self, folder: Path, pool: str, name: str) -> None:
        self._path = folder / f"worker-{name}.json"
        self._pool, self._name = pool, name
        self._cause: str | None = None
        self._event_id = uuid4()
        """One for all tries: what the server took without our hearing of it is not counted twice."""

    def begin(self) -> None:
        """Look for the predecessor's note, and leave one."""
        with suppress(OSError, ValueError):
            self._cause = cause(json.loads(self._path.read_text()), _boot())
        self._write(self._cause)

    def ended(self, why: str) -> None:
        """The worker ends by itself, for this reason."""
        self._write(None, why)

    def stopped(self) -> None:
        """Somebody wanted it."""
        self._path.unlink(missing_ok=True)

    def event(self) -> dict[str, Any] | None:
        """What the server is to be told, as `POST /events` takes it."""
        if self._cause is None:
            return None
        return {
            "id": str(self._event_id),
            "occurred": datetime.now(UTC).isoformat(),
            "event": EVENT,
            "resource": {
                "prefect.resource.id": f"platform.worker.{self._pool}.{self._name}",
                "prefect.resource.name": self._name,
            },
            "payload": {"cause": self._cause},
        }

    def told(self) -> None:
        """The server knows."""
        self._cause = None
        self._write(None)

    def _write(self, untold: str | None, why: str | None = None) -> None:
        text = json.dumps({"boot": _boot(), "untold": untold, "why": why})
        with suppress(OSError):  # a full disk must not keep a worker from working
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(text)


def cause(note: Mapping[str, Any], boot: str) -> str | None:
    """Why the worker that left this note ended, or None when the machine did."""
    if note.get("why"):
        return str(note["why"])
    if note.get("boot") != boot:
        return str(note["untold"]) if note.get("untold") else None
    return KILLED


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""
