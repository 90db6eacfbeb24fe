"""Settings of every Prefect client that we set up, here or elsewhere: our workers, a user's profile, a shell, a repository's workflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def client_settings(values: Mapping[str, Any]) -> dict[str, str]:
    """As environment variables or a profile's settings; none of them is secret."""
    return {
        # Without an API a client would start a server of its own, and its runs would be seen by nobody.
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(values["prefect"]["heartbeat_seconds"]),
        # What a restart may answer; Prefect's clients try 429, 502 and 503 again by themselves.
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
    }
