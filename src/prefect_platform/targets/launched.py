"""What a launcher wrote about the Prefect that it started (stacks/prefect/launched.py), as operators read it."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

FILE = "PLATFORM_LAUNCHED"
"""The variable of a process that names the file."""
_LONGEST = 4000


def described(text: str) -> str:
    """For the line of its process; empty for anything else than what a launcher writes."""
    said = _read(text)
    if not said:
        return ""
    mends = ", ".join(said["mends"])
    if said["without"]:
        return f"Prefect {said['version']} WITHOUT {mends}: {said['without']}"
    return f"Prefect {said['version']} with {mends}" if mends else f"Prefect {said['version']}"


def read(file: Path, since: float) -> str:
    """What a launcher wrote there at `since` or later. Flows may write there, too: nothing is followed, waited for or read without end."""
    try:
        seen = file.lstat()
        if not stat.S_ISREG(seen.st_mode) or seen.st_mtime < since:
            return ""
        with file.open() as opened:
            return described(opened.read(_LONGEST))
    except (OSError, ValueError):
        return ""


def _read(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text)
        return {
            "version": _line(said["version"]),
            "mends": [*map(_line, said["mends"])],
            "without": _line(said["without"]),
        }
    except (ValueError, KeyError, TypeError):
        return {}


def _line(value: Any) -> str:
    """What a terminal shows as it is."""
    return "".join(letter for letter in str(value) if letter.isprintable())
