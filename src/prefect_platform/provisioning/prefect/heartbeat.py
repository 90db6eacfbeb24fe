"""Times as the API gives them, and who is alive by them."""

from __future__ import annotations

import time
from datetime import datetime

from .api import Json

# Prefect's own rule: three beats missed, a beat being 30 s unless the worker says otherwise.
MISSED = 3
DEFAULT_INTERVAL = 30.0


def seconds_since(moment: str) -> float:
    """Age of a time stamp of the API, by this machine's clock."""
    return time.time() - datetime.fromisoformat(moment).timestamp()


def is_online(worker: Json, grace: float = 0.0) -> bool:
    """By its last heartbeat. The `status` of Prefect 3.8.8's API stays ONLINE if the server's monitor is stuck."""
    allowed = MISSED * float(worker["heartbeat_interval_seconds"] or DEFAULT_INTERVAL) + grace
    return seconds_since(worker["last_heartbeat_time"]) < allowed
