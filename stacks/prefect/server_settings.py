"""Settings of the split topology that hold a password: made here, in the process, so that they stand in no file of ours.

Prefect's task queue (docket) takes Redis by URL only.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from urllib.parse import quote


def apply(environ: MutableMapping[str, str]) -> None:
    """Complete the environment from PREFECT_REDIS_MESSAGING_*; nothing to do where no Redis is configured."""
    host = environ.get("PREFECT_REDIS_MESSAGING_HOST")
    if not host:
        return
    password = environ.get("PREFECT_REDIS_MESSAGING_PASSWORD", "")
    environ.setdefault("PREFECT_REDIS_WORKER_CLEANUP_QUEUE_PASSWORD", password)
    port, number = environ["PREFECT_REDIS_MESSAGING_PORT"], environ["PREFECT_REDIS_MESSAGING_DB"]
    # quote, not quote_plus: redis-py does not decode a `+`.
    environ["PREFECT_SERVER_DOCKET_URL"] = f"redis://:{quote(password, safe='')}@{host}:{port}/{number}"


def secrets_of(environ: MutableMapping[str, str]) -> list[bytes]:
    """What must not be seen in an answer, longest first."""
    password = environ.get("PREFECT_REDIS_MESSAGING_PASSWORD", "")
    return sorted({quote(password, safe="").encode(), password.encode()} - {b""}, key=len, reverse=True)
