"""What an environment sets on top of the settings: the user's, over those that a folder of the clone ships. Pure but for reading those."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prefect_platform.files import parse_yaml

Values = dict[str, Any]


def merge(base: Values, over: Values) -> Values:
    merged = copy.deepcopy(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


def shipped(root: Path) -> dict[str, Values]:
    """The environments that folders of the clone bring (lab/environment.yaml), by name."""
    files = sorted(root.glob("*/environment.yaml"))
    return {file.parent.name: parse_yaml(file.read_text(encoding="utf-8")) for file in files}


def with_shipped(root: Path, overlays: Mapping[str, Values | None]) -> dict[str, Values]:
    """The user's environments, and the shipped ones below those of the same name."""
    own = {name: overlay or {} for name, overlay in overlays.items()}
    return {**own, **{name: merge(values, own.get(name, {})) for name, values in shipped(root).items()}}


def follow(root: Path, env: str, values: Values) -> Values:
    """Fill `{traefik[http_port]}` and the like into what a shipped environment says, so that it follows what the user changes."""
    followed = values
    for path, text in _texts(shipped(root).get(env, {})):
        if "{" in text and _at(values, path) == text:
            try:
                filled: Any = text.format(**values)
            except (LookupError, TypeError):
                continue  # the section is no mapping, which the schema refuses
            for key in reversed(path):
                filled = {key: filled}
            followed = merge(followed, filled)
    return followed


def _texts(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(values, str):
        yield path, values
    for key, value in values.items() if isinstance(values, dict) else ():
        yield from _texts(value, (*path, key))


def _at(values: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values
