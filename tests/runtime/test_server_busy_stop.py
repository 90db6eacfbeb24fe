"""SIGTERM while the server is too busy to read: a request that had arrived is answered."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from pathlib import Path

from .conftest import STACK, free_port, runtime_python

SERVER = """
import sys, time
sys.path.insert(0, {stack!r})
import asyncio, uvicorn
from server_http import ConnectionCloser, GracefulServer, StopLimits, bind

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/busy":
        time.sleep({busy})  # nothing else of this process goes on meanwhile
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}})
    await send({{"type": "http.response.body", "body": b"ok"}})

closer = ConnectionCloser(app)
listener = bind("127.0.0.1", {port})
config = uvicorn.Config(closer, lifespan="off", log_level="error")
server = GracefulServer(config, closer, StopLimits(lame_duck={lame_duck}), lambda: print("started", flush=True))
asyncio.run(server.serve([listener]))
"""
LAME_DUCK = 4.0


def ask(connection: socket.socket, path: str) -> None:
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())


def answered(connection: socket.socket) -> bool:
    """Read one answer, whole."""
    said = b""
    while not said.endswith(b"\r\n\r\nok") and (more := connection.recv(1024)):
        said += more
    return said.startswith(b"HTTP/1.1 200")


def test_a_request_that_arrived_while_it_was_busy_is_answered(tmp_path: Path) -> None:
    port = free_port()
    program = tmp_path / "program.py"
    program.write_text(SERVER.format(stack=str(STACK), port=port, busy=LAME_DUCK + 0.5, lame_duck=LAME_DUCK))
    with (
        contextlib.ExitStack() as opened,
        subprocess.Popen([runtime_python(), str(program)], stdout=subprocess.PIPE) as process,
    ):
        opened.callback(process.kill)
        assert process.stdout
        assert process.stdout.readline() == b"started\n"
        busy, idle = (
            opened.enter_context(socket.create_connection(("127.0.0.1", port), 30)) for _ in range(2)
        )
        for connection in (busy, idle):  # kept alive afterwards
            ask(connection, "/")
            assert answered(connection)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        ask(busy, "/busy")
        time.sleep(0.3)
        ask(idle, "/")  # unread until the lame duck's time is over
        assert answered(busy)
        assert answered(idle)
        assert process.wait(20) == 0
