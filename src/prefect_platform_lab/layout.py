"""Where a lab keeps what. Two clones have two labs: every name carries a hash of the clone's path."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CODE = Path(__file__).resolve().parents[2]
"""The clone that this code belongs to: the lab is built from its `lab/` and `requirements/`."""
CACHE_VARIABLE = "PREFECT_PLATFORM_LAB_CACHE"


@dataclass(frozen=True)
class Layout:
    state: Path
    """Keys, configuration, logs, and what was written to the lab's machine."""
    cache: Path
    """The engine's data root. The state folder, unless a variable names a folder that test runs share to build images once."""
    name: str
    """Also the name of the engine's bridge, so no longer than 15 characters."""

    @property
    def run(self) -> Path:
        """Short, because the path of a socket may have no more than 107 bytes, wherever the clone is."""
        return Path("/run") / f"prefect-platform-lab-{self.name.removeprefix('pplab')}"

    @property
    def data(self) -> Path:
        return self.cache / "docker"

    @property
    def socket(self) -> Path:
        return self.run / "docker.sock"

    @property
    def record(self) -> Path:
        """Who runs on this data root; it lies beside it, for two engines on one data root destroy it."""
        return self.cache / "machine.json"

    @property
    def ssh_config(self) -> Path:
        return self.state / "ssh_config"


def of(root: Path, environ: Mapping[str, str] = os.environ) -> Layout:
    state = root.resolve() / ".state" / "lab-host"
    cache = Path(environ[CACHE_VARIABLE]).resolve() if environ.get(CACHE_VARIABLE) else state
    name = "pplab" + hashlib.sha256(os.fsencode(state)).hexdigest()[:8]
    return Layout(state, cache, name)
