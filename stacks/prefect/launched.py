"""What a launcher started, written where `status` finds it: the version of Prefect, and which changes of ours are active in it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

FILE = "PLATFORM_LAUNCHED"
"""The variable that names the file. Without it nothing is written."""


def publish(version: str, mends: Sequence[str], without: str | None = None) -> None:
    """`mends` are what this launcher adds to a Prefect that it knows; `without` says why they are not active."""
    name = os.environ.get(FILE)
    if not name:
        return
    said = {"version": version, "mends": list(mends), "without": without or ""}
    # On a full disk there are other things to say.
    with contextlib.suppress(OSError):
        part = Path(f"{name}.part")
        part.write_text(json.dumps(said))
        part.replace(name)
