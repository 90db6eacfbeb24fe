"""The part a stack plays for all others. Its stack.yml declares it, so that targets and operations know no stack by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEY = "x-roles"
"""In the schema of a stack's section: role → the stack's name."""


@dataclass(frozen=True)
class Roles:
    """Names of stacks; "" for a part that none plays."""

    main: str = ""
    """What an environment is for (`proves: true`)."""
    proxy: str = ""
    """Traefik: has the public ports, and is in every environment's edge network."""
    secrets: str = ""
    """Our own Vault."""
    database: str = ""
    """The environment's shared PostgreSQL."""

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> Roles:
        """As the sections of the settings' schema say."""
        found: dict[str, str] = {}
        for section in schema["properties"].values():
            found = {**section.get(KEY, {}), **found}
        return cls(**found)
