"""What the gateway adds to a request: lean keep-alive connections, so that the client's own work does not hide it."""

from __future__ import annotations

import gc
import socket
import statistics
import time
from dataclasses import dataclass
from typing import Self


class Connection:
    """One HTTP/1.1 connection that asks for the same path again and again."""

    def __init__(self, port: int, path: str, headers: dict[str, str], host: str = "127.0.0.1") -> None:
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._request = "\r\n".join([*lines, "", ""]).encode()
        self._socket = socket.create_connection((host, port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def milliseconds(self) -> float:
        """How long one answer took; it must be a 200."""
        began = time.perf_counter()
        self._socket.sendall(self._request)
        answer = self._socket.recv(65536)
        while not _complete(answer):
            more = self._socket.recv(65536)
            if not more:
                raise ConnectionError("closed in the middle of an answer")
            answer += more
        took = (time.perf_counter() - began) * 1000
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise ValueError(answer[:200])
        return took


def _complete(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(body) >= int(value)
    raise ValueError(f"an answer without a length: {head!r}")


@dataclass(frozen=True)
class Latency:
    """Milliseconds, at the median and at the 99th percentile."""

    p50: float
    p99: float


def compare(direct: Connection, through: Connection, count: int) -> tuple[Latency, Latency]:
    """Both in turn, so that whatever else the machine does meets both alike."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(100):  # connections, caches and JITs of nobody's interest
        direct.milliseconds()
        through.milliseconds()
    gc.disable()
    try:
        for _ in range(count):
            times[0].append(direct.milliseconds())
            times[1].append(through.milliseconds())
    finally:
        gc.enable()
    return _latency(times[0]), _latency(times[1])


def _latency(times: list[float]) -> Latency:
    cuts = statistics.quantiles(times, n=100)
    return Latency(cuts[49], cuts[98])
