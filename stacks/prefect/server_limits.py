"""What Prefect's limit of 100 requests counts, and how many connections the process may have.

On SQLite, Prefect 3.8.8 works on at most 100 requests at once, and counts a WebSocket as one for as long as it is open: a
hundred idle event sockets, and no request of anybody is answered. Workers and clients keep such sockets open for days. Here
they do not count. Bodies that come slowly do not reach the limit either: the gateway passes a request on once it has all of it.
"""

from __future__ import annotations

import resource
from typing import Any

CONNECTIONS = 65536


def apply() -> None:
    """Patch the class that counts; `sqlite_writes.unsupported_reason` has looked at the version."""
    from prefect.server.api.server import RequestLimitMiddleware

    counted: Any = RequestLimitMiddleware.__call__

    async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await counted(self, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    RequestLimitMiddleware.__call__ = call  # type: ignore[method-assign]


def raise_file_limit() -> None:
    """Each open socket is a file; 1,024 is what a shell or supervisord hands down. Beyond the limit nobody is accepted any more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, CONNECTIONS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
