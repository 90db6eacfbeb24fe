"""Flows for the tests: the file is put where a worker finds it."""

from __future__ import annotations

import time

from prefect import flow
from prefect.concurrency.sync import concurrency


@flow
def quick() -> int:
    """Done at once."""
    return 1


@flow
def slow(seconds: int = 25) -> int:
    """Runs while something happens to its worker."""
    for _ in range(seconds):
        time.sleep(1)
    return seconds


@flow
def holding(limit: str = "chaos", seconds: int = 900) -> None:
    """Keeps a slot of a limit until somebody ends it."""
    with concurrency(limit, occupy=1, lease_duration=60):
        time.sleep(seconds)
