"""Which settings a port comes from."""

from __future__ import annotations

from collections.abc import Mapping

from prefect_platform.config.settings import Settings


def keys(settings: Settings, port: int) -> str:
    """The keys whose value it is, as words of a message."""
    found = [
        f"platform.{section}.{key}"
        for section, values in settings.values.items()
        if isinstance(values, Mapping)
        for key, value in values.items()
        if (key == "port" or key.endswith("_port")) and value == port
    ]
    return " or ".join(found) or "its key in invoke.yaml"
