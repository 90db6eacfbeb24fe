"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """Outcome of one probe. `seconds` is how long it took."""

    name: str
    ok: bool
    detail: str
    seconds: float
    hint: str = ""
