"""The health check of containers that have Python and no curl."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from prefect_platform.planning.where import Where


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that is well at /base/ready only."""

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/base/ready" else 503)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def _probe(port: int, path: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-I", "-S", "-c", Where.http_probe(port, path)]
    return subprocess.run(words, capture_output=True, text=True)


def test_only_an_answer_of_200_is_well(port: int) -> None:
    assert _probe(port, "/base/ready").returncode == 0
    wrong = _probe(port, "/other")
    assert (wrong.returncode, wrong.stderr) == (1, "HTTP/1.0 503 Service Unavailable\n")


def test_nobody_who_listens_is_told() -> None:
    assert "Connection refused" in _probe(1, "/").stderr
