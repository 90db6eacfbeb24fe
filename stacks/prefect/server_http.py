"""A uvicorn server whose stop costs its clients nothing.

Stock uvicorn closes idle keep-alive connections the moment it gets SIGTERM. A reverse proxy that is writing a
request to one of them at that moment sees a reset and cannot repeat a POST. Here the stop goes in steps:

1. connections that the kernel has already accepted are taken over, then the listener closes (new ones are
   refused: the proxy holds and repeats those);
2. for a short time ("lame duck") every answer carries `Connection: close`, so the proxy empties its pool by
   itself;
3. only then the connections that stayed idle are closed (not one on which a request has arrived that a busy
   process has not read yet), websockets get 1012, running requests are waited for;
4. an upper limit ends what never ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import socket
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn

Message = dict[str, Any]


class WithoutQuery(logging.Filter):
    """Takes the query off each path that uvicorn 0.54 logs: it may hold what people search for, and no log is the place for that."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                each.partition("?")[0] if isinstance(each, str) and each.startswith("/") else each
                for each in record.args
            )
        return True


def log_without_queries() -> None:
    for name in ("uvicorn.access", "uvicorn.error"):  # the latter has the WebSockets
        logging.getLogger(name).addFilter(WithoutQuery())


@dataclass(frozen=True)
class StopLimits:
    """How long a stop may take, in seconds: `lame_duck` is part of `total`."""

    lame_duck: float = 1.0
    total: float = 25.0

    @property
    def requests(self) -> int:
        """Time for running requests; the rest of `total` is for the services' own shutdown."""
        return max(1, int(self.total - self.lame_duck - 4))


class ConnectionCloser:
    """ASGI wrapper that adds `Connection: close` to every answer once `closing` is set."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.closing = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_closing(message: Message) -> None:
            if self.closing and message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
            await send(message)

        await self.app(scope, receive, send_closing)


class GracefulServer(uvicorn.Server):
    """uvicorn.Server with the stop described above; `on_started` runs once the listener is open."""

    def __init__(
        self,
        config: uvicorn.Config,
        closer: ConnectionCloser,
        limits: StopLimits,
        on_started: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._closer = closer
        self._limits = limits
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn records the signal and raises it again at the end: a clean stop would exit with -15.
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        watchdog = threading.Timer(self._limits.total, _give_up, (self._limits.total,))
        watchdog.daemon = True
        watchdog.start()
        await self._close_listeners(sockets or [])
        self._closer.closing = True
        deadline = time.monotonic() + self._limits.lame_duck
        while self._http_connections() and time.monotonic() < deadline and not self.force_exit:
            await asyncio.sleep(0.02)
        while any(map(_unread, self._http_connections())) and not self.force_exit:
            await asyncio.sleep(0.01)  # the watchdog ends what never ends
        await super().shutdown(sockets)
        watchdog.cancel()

    def _http_connections(self) -> list[Any]:
        """Connections that may still bring a request (websocket protocols have no request cycle)."""
        return [connection for connection in self.server_state.connections if hasattr(connection, "cycle")]

    async def _close_listeners(self, sockets: Sequence[socket.socket]) -> None:
        pending: list[socket.socket] = []
        for listener in sockets:
            pending += _accept_pending(listener)
            # shutdown() takes effect at once also where the event loop closes its handle later.
            listener.shutdown(socket.SHUT_RDWR)
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        for connection in pending:
            await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        factory: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = factory(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


def _unread(connection: Any) -> bool:
    """Whether bytes have arrived that the process has not read: closing the connection now would reset them."""
    found = connection.transport.get_extra_info("socket")
    if found is None or found.fileno() < 0:
        return False
    count = fcntl.ioctl(found.fileno(), termios.FIONREAD, b"\0" * 4)
    return bool(int.from_bytes(count, sys.byteorder))


def _accept_pending(listener: socket.socket) -> list[socket.socket]:
    """Take the connections that clients already regard as open: closing the listener would reset them."""
    accepted: list[socket.socket] = []
    while True:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError):
            return accepted
        connection.setblocking(False)
        accepted.append(connection)


def _give_up(seconds: float) -> None:
    print(f"server.py: the stop took longer than {seconds:g} s; ending now", file=sys.stderr, flush=True)
    os._exit(1)


def bind(host: str, port: int) -> socket.socket:
    """Bind (not listen) now, so that a taken port is reported before seconds of imports. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
