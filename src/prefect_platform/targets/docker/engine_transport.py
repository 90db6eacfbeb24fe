"""A transport of the Docker SDK over any socket, as its own for ssh:// is over paramiko's."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

from docker.transport.basehttpadapter import BaseHTTPAdapter
from requests import PreparedRequest
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool


class _Connection(HTTPConnection):
    def __init__(self, connect: Callable[[], socket.socket], seconds: float) -> None:
        super().__init__("engine", timeout=seconds)
        self._open = connect

    def connect(self) -> None:
        self.sock = self._open()


class _Pool(HTTPConnectionPool):
    """Keeps one connection and opens it again if the engine closed it."""

    def __init__(self, connect: Callable[[], socket.socket], seconds: float) -> None:
        super().__init__("engine", timeout=seconds, maxsize=1, block=True)
        self._open, self._seconds = connect, seconds

    def _new_conn(self) -> _Connection:
        return _Connection(self._open, self._seconds)


class Adapter(BaseHTTPAdapter):
    """`connect` opens a socket to the engine; `seconds` an answer may take."""

    def __init__(self, connect: Callable[[], socket.socket], seconds: float) -> None:
        self._pool = _Pool(connect, seconds)
        super().__init__()

    def get_connection(self, url: Any, proxies: Mapping[str, str] | None = None) -> _Pool:
        return self._pool

    def request_url(self, request: PreparedRequest, proxies: Mapping[str, str] | None) -> str:
        return str(request.path_url)

    def close(self) -> None:
        self._pool.close()
