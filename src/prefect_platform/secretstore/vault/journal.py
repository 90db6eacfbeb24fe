"""What Vault says once, at its initialisation, kept on the operator's disk until the setup is through with it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect_platform.files import read_mapping, write_atomic
from prefect_platform.secretstore.store import Secret

from .kv import Initialised


@dataclass(frozen=True)
class Journal:
    """A 0600 file with the recovery keys and, until it is revoked, the root token."""

    file: Path

    def read(self) -> dict[str, Any]:
        return read_mapping(self.file, f"the only copy of Vault's keys: repair {self.file}, do not delete it")

    @property
    def root(self) -> Secret | None:
        token = self.read().get("root_token")
        return Secret(token) if token else None

    def write(self, answer: Initialised) -> None:
        content = {
            "root_token": answer.root_token.value,
            "recovery_keys": [key.value for key in answer.recovery_keys],
            "threshold": answer.threshold,
        }
        write_atomic(self.file, json.dumps(content, indent=1).encode(), 0o600)

    def forget(self, *, keep_recovery_keys: bool) -> None:
        """After the keys were printed and the root token was revoked."""
        if not keep_recovery_keys:
            self.file.unlink(missing_ok=True)
            return
        rest = {name: value for name, value in self.read().items() if name != "root_token"}
        write_atomic(self.file, json.dumps(rest, indent=1).encode(), 0o600)

    def set_aside(self) -> Path:
        """Give it another name; returns that."""
        return self.file.rename(self.file.with_name(f"{self.file.name}.{time.strftime('%Y%m%d-%H%M%S')}"))
