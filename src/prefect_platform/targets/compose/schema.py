"""What decides the schema of a stack's databases, read from its Compose file: an older release cannot run on a newer one's. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_platform.config import images
from prefect_platform.files import parse_yaml

from .compose_file import AGENT, ONCE, SCHEMA


def decided_by(compose: bytes) -> tuple[str, ...]:
    """Equal for two releases whose databases have the same schema; empty without a service that has any.

    The digest of the files that a stack names (`x-schema`); else the image of its run-once service, which migrates; else those of all
    its services, which migrate when they start. Images count without digest: their version decides.
    """
    services: Mapping[str, Any] = (parse_yaml(compose) or {}).get("services") or {}
    named = {str(spec[SCHEMA]) for spec in services.values() if SCHEMA in spec}
    once = {_image(spec) for spec in services.values() if ONCE in spec.get("labels", {})}
    every = {_image(spec) for name, spec in services.items() if name != AGENT}
    return tuple(sorted(named or once or every))


def run_once(compose: bytes) -> list[str]:
    """The services that migrate the databases: they run once, before the others."""
    services: Mapping[str, Any] = (parse_yaml(compose) or {}).get("services") or {}
    return [name for name, spec in services.items() if ONCE in spec.get("labels", {})]


def _image(spec: Mapping[str, Any]) -> str:
    return images.tag(str(spec["image"]))
