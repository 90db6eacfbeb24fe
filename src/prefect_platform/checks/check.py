"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass

from prefect_platform.errors import PlatformError


@dataclass(frozen=True)
class Check:
    """Outcome of one probe. `seconds` is how long it took; `warn`: it is well, and will not be for long."""

    name: str
    ok: bool
    detail: str
    seconds: float
    hint: str = ""
    warn: bool = False


class Warns(PlatformError):
    """Raised by a probe that found all well, but not for long."""
