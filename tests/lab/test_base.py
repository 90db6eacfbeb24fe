"""The stand-ins' Debian."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from prefect_platform.errors import ApplyError
from prefect_platform_lab import base


@pytest.fixture
def mirror() -> Iterator[tuple[str, list[str]]]:
    """(address, paths asked for) of a mirror that has a bad day."""
    asked: list[str] = []

    class Mirror(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/debian/", asked
        server.shutdown()


def test_a_download_that_fails_is_tried_again(
    tmp_path: Path, mirror: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "PAUSE", 0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    address, asked = mirror
    told: list[str] = []
    with pytest.raises(ApplyError, match="debootstrap"):
        base.bootstrap(tmp_path / "base", address, told.append)
    first = [path for path in asked if path == asked[0]]
    assert len(told) == base.ATTEMPTS - 1
    assert len(first) >= base.ATTEMPTS
    assert all("once more" in line for line in told), told
