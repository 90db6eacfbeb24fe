"""Stack + Settings + Where → Bundle: the rendered files and services of a stack. Pure but for reading the stack's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from prefect_platform.config.stack import Stack

PLUGINS = "plugins-local"
"""The folder of a bundle where Traefik looks for plugins. Copied with the folders in it."""


@dataclass(frozen=True)
class Service:
    """One process, in Compose's terms. `reads` are bundle files whose change must restart it.

    `spec` is the whole Compose service where a Compose engine runs it; the fields beside it are then empty.
    """

    stack: str
    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    working_dir: str
    stop_signal: str
    stop_seconds: int
    after: tuple[str, ...]
    reads: Mapping[str, str]
    ports: tuple[int, ...]
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        return f"{self.stack}-{self.name}"

    @property
    def needs_secrets(self) -> bool:
        return "SECRETS_FILE" in self.environment

    @property
    def lasts(self) -> bool:
        """False for what runs once, before the others."""
        return self.spec.get("restart") != "no"

    def facts(self) -> dict[str, Any]:
        """What a restart depends on, as plain data: kept to tell later what changed."""
        facts = asdict(self)
        spec = facts.pop("spec")
        if spec:
            facts = {"stack": self.stack, "name": self.name, "reads": facts["reads"], **spec}
        return json.loads(json.dumps(facts))  # type: ignore[no-any-return]

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Bundle:
    """`files`: path inside the stack's run-time folder → bytes. `routes` is its share of Traefik's dynamic configuration.

    `compose` is the parsed Compose file, from which a target derives the `services` it runs.
    """

    stack: Stack
    files: Mapping[str, bytes]
    services: tuple[Service, ...]
    routes: bytes | None
    compose: Mapping[str, Any] = field(default_factory=dict)


def content_digest(files: Mapping[str, bytes], path: str) -> str:
    """The digest of a file, or of all files below a path that ends in a slash."""
    chosen = sorted(name for name in files if name == path or (path.endswith("/") and name.startswith(path)))
    digest = hashlib.sha256()
    for name in chosen:
        digest.update(name.encode() + b"\0" + files[name] + b"\0")
    return digest.hexdigest()[:16]
