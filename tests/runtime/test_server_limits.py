"""Sockets that are open must cost other clients nothing: not a request's place, and not the last file of the process."""

from __future__ import annotations

import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from .conftest import STACK, Platform, runtime_python

SOCKETS = 120
"""More than the requests that Prefect works on at once."""
ASK = (
    "GET /api/events/in HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
RAISED = """
import resource, sys
sys.path.insert(0, {stack!r})
import server_limits
hard = min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
server_limits.raise_file_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))
"""


@pytest.mark.timeout(180)
def test_open_sockets_take_no_requests_place(shared_platform: Platform) -> None:
    with ExitStack() as opened:
        for _ in range(SOCKETS):
            held = opened.enter_context(socket.create_connection(("127.0.0.1", shared_platform.port), 30))
            held.sendall(ASK.encode())
            assert held.recv(4096).startswith(b"HTTP/1.1 101")
        answer = httpx.post(f"{shared_platform.url}/work_pools/filter", json={}, timeout=30)
        assert answer.status_code == 200


def test_the_server_may_have_as_many_files_as_the_system_lets_it() -> None:
    program = RAISED.format(stack=str(STACK))
    done = subprocess.run([runtime_python(), "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr


def test_a_copy_of_the_ui_with_read_only_folders_can_be_replaced(tmp_path: Path) -> None:
    """As Prefect makes it from a runtime that nobody may change; root deletes it anyway, so the modes are looked at."""
    inside = tmp_path / "v2" / "assets"
    inside.mkdir(parents=True)
    for folder in (inside, inside.parent):
        folder.chmod(0o555)
    program = f"import sys; sys.path.insert(0, {str(STACK)!r}); import server_ui; server_ui.make_replaceable({str(tmp_path)!r})"
    subprocess.run([runtime_python(), "-c", program], check=True)
    assert [folder.stat().st_mode & 0o777 for folder in (inside, inside.parent)] == [0o755, 0o755]
