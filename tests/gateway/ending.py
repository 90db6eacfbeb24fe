"""Records of tokens that end soon or later, in use or not, and what a running gateway tells of them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from prefect_platform.gateway.database import parse
from prefect_platform.gateway.ending import USED_SECONDS
from prefect_platform.gateway.store import Store
from prefect_platform.gateway.tokens import Kind, grant
from tests.gateway.process import Gateway

DAY = 86400
SOON = [("soon", 13 * DAY, DAY), ("sooner", 7200, 30 * DAY)]
"""(service, seconds to its end, seconds since its use)"""
OTHERS = [
    ("later", 15 * DAY, DAY),
    ("never-used", 13 * DAY, None),
    ("no-longer-used", 13 * DAY, USED_SECONDS + DAY),
    ("revoked", 13 * DAY, DAY),
]


async def _records(url: str) -> None:
    store, now = Store(parse(url)), int(time.time())
    await store.prepare()
    for service, ends, used in [*SOON, *OTHERS]:
        claims = grant(Kind.TOKEN, "tests", service, "prefect", ends)
        await store.add(claims, "")
        if used is not None:
            await store.mark_used({claims.jti: now - used})
        if service == "revoked":
            await store.revoke(claims.jti, now)
    session = grant(Kind.SESSION, "platform", "browser", "prefect", 12 * 3600)
    await store.add(session, "")
    await store.mark_used({session.jti: now})
    await store.close()


def asked(gateway: Gateway) -> list[dict[str, Any]]:
    asyncio.run(_records(gateway.env["GATEWAY_DATABASE_URL"]))
    viewer = gateway.new_token("--scope", "metrics")
    gateway.start()
    answer = gateway.get("/auth/tokens", [("Authorization", f"Bearer {viewer}")])
    assert answer.status_code == 200, answer.text
    return list(answer.json()["ending"])
