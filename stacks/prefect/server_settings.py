"""Settings of the split topology that hold a password: made here, in the process, so that they stand in no file of ours.

Prefect's task queue (docket) takes Redis by URL only, and `GET /admin/settings` of Prefect 3.8.8 shows that URL in clear to every
caller of the API: `MaskedSettings` takes the password out of that answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MASK = b"********"


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


class MaskedSettings:
    """An ASGI app whose answer under `…/admin/settings` shows none of `secrets`."""

    def __init__(self, app: App, secrets: list[bytes]) -> None:
        self._app = app
        self._secrets = secrets

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].rstrip("/").endswith("/admin/settings"):
            return await self._app(scope, receive, send)
        # Compressed, a password would not be found.
        scope["headers"] = [item for item in scope["headers"] if item[0] != b"accept-encoding"]
        start: Message = {}
        body = b""

        async def held(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            shown = self._masked(body)
            headers = [item for item in start["headers"] if item[0].lower() != b"content-length"]
            await send({**start, "headers": [*headers, (b"content-length", str(len(shown)).encode())]})
            await send({"type": "http.response.body", "body": shown})

        return await self._app(scope, receive, held)

    def _masked(self, body: bytes) -> bytes:
        for secret in self._secrets:
            body = body.replace(b":" + secret + b"@", b":" + MASK + b"@")
        return body
