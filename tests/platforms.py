"""What the journeys ask of a platform, whatever its target: tests.local's Clone has it, and tests.fly's Fly."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Protocol


class Reached(Protocol):
    ports: dict[str, int]

    @property
    def url(self) -> str: ...

    @property
    def state(self) -> Path:
        """The environment's folder below `.state`."""
        ...

    def invoke(self, *words: str) -> subprocess.CompletedProcess[str]: ...
