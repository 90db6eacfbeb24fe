"""services.json: what each process was last started with. A corrupt one is an error and is kept: it shows what a restart would interrupt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect_platform.errors import PlatformError
from prefect_platform.files import read_mapping, write_atomic

# The facts of a record that are read; our files always have them.
_FACTS: dict[str, type | tuple[type, ...]] = {
    "stack": str,
    "argv": list,
    "environment": dict,
    "working_dir": str,
    "stop_seconds": (int, float),
}


def read(file: Path) -> dict[str, Any]:
    """Records by service: `facts` and `secret_version`. Raises PlatformError when it is not what was written."""
    hint = f"mv {file} {file}.broken, then run the command again: setup restarts every process once"
    records = read_mapping(file, hint)
    if not all(_is_record(record) for record in records.values()):
        raise PlatformError(f"{file}: corrupt; nothing was changed", hint)
    return records


def write(file: Path, name: str, record: Mapping[str, Any] | None) -> None:
    """Set or (None) drop one service's record."""
    records = {**read(file), name: record}
    kept = {each: value for each, value in records.items() if value is not None}
    write_atomic(file, json.dumps(kept, indent=1, sort_keys=True).encode())


def _is_record(record: Any) -> bool:
    facts = record.get("facts") if isinstance(record, dict) else None
    return (
        isinstance(facts, dict)
        and isinstance(record.get("secret_version"), str)
        and all(isinstance(facts.get(name), kind) for name, kind in _FACTS.items())
    )
