"""Tokens that are in use and end soon, for the platform's status.

In memory only what changed is known; this asks the store, so it is for one caller now and then.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import JSONResponse, Response

from prefect_platform.gateway.store import Record

SCOPE = "metrics"
"""Who may look at the platform's operation may know which of its tokens end."""
SOON_SECONDS = 14 * 86400
USED_SECONDS = 35 * 86400
"""In use is what was used this recently: it covers what runs once a month."""


def answer(records: Sequence[Record], now: int) -> Response:
    """The tokens, the first to end first; never the token itself."""
    rows = [
        {
            "id": each.jti[:12],
            "subject": each.subject,
            "scope": each.scope,
            "ends_in": each.expires_at - now,
            "last_used": None if each.last_used_at is None else now - each.last_used_at,
        }
        for each in records
    ]
    return JSONResponse({"ending": rows}, headers={"Cache-Control": "no-store"})
