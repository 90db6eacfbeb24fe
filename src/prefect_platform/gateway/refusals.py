"""Refused requests in the verifier's log: counted, one line a minute. The request log leaves them out, for strangers would fill it."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections import Counter
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("gateway")

EVERY_SECONDS = 60
MAX_CLIENTS = 1000
"""Counted apart at most: an attacker with many addresses must not fill the memory."""
_SHOWN = 3
_OTHERS = "others"


class Refusals:
    """ASGI wrapper that counts the answers 401. The first is logged at once, those of the next minute together with the next."""

    def __init__(self, app: ASGIApp, now: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._now = now
        self._clients: Counter[str] = Counter()
        self._told = -float(EVERY_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401:
                self._count(client(Headers(scope=scope)))
            await send(message)

        await self._app(scope, receive, counting if scope["type"] == "http" else send)

    def _count(self, address: str) -> None:
        known = address in self._clients or len(self._clients) < MAX_CLIENTS
        self._clients[address if known else _OTHERS] += 1
        if self._now() - self._told < EVERY_SECONDS:
            return
        most = ", ".join(f"{name} ({count})" for name, count in self._clients.most_common(_SHOWN))
        log.warning(
            "requests refused since the last such line: %d, most from %s", self._clients.total(), most
        )
        self._clients.clear()
        self._told = self._now()


def client(headers: Headers) -> str:
    """The address that asks, as the nearest proxy saw it. What a client itself wrote stands further left in X-Forwarded-For."""
    found = []
    for text in reversed(headers.get("x-forwarded-for", "").split(",")):
        try:
            found.append(ipaddress.ip_address(text.strip()))
        except ValueError:
            break
    outside = [each for each in found if not each.is_loopback]
    chosen = next((each for each in outside if each.is_global), outside[0] if outside else None)
    return str(chosen) if chosen else "this machine"
