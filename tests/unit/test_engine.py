"""The engine's answers over a command's standard input and output."""

from __future__ import annotations

import socket
import time

import psutil

from prefect_platform.targets.docker.engine import Engine
from prefect_platform.targets.docker.fake_engine import FakeEngine
from prefect_platform.targets.docker.runner import LocalRunner


def _no_cause() -> None:
    """Nothing is known of why."""


def test_a_command_is_one_socket_and_ends_with_it() -> None:
    connection = LocalRunner().connect(["cat"])
    connection.sendall(b"there and back")
    assert connection.recv(100) == b"there and back"
    (process,) = (each for each in psutil.Process().children() if each.name() == "cat")
    connection.close()
    end = time.monotonic() + 10
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_every_question_takes_the_same_connection_until_it_is_cut() -> None:
    fake, opened = FakeEngine(), list[socket.socket]()
    fake.containers = [{"Name": "/one", "Id": "1", "Config": {"Labels": {"a": "b"}}}]
    fake.images, fake.networks, fake.volumes = (
        {"app:1": {"Id": "x"}},
        {"net": {"a": "b"}},
        {"vol": {"a": "b"}},
    )

    def connect() -> socket.socket:
        opened.append(fake.connect())
        return opened[-1]

    engine = Engine("host", connect, _no_cause)
    assert [each["Name"] for each in engine.containers({"a": "b"})] == ["/one"]
    assert engine.containers({"a": "c"}) == []
    assert (engine.container("gone"), engine.image("app:2"), engine.network("gone")) == (None, None, None)
    assert engine.image("app:1") == {"Id": "x"}
    assert (engine.networks({"a": ""}), engine.volumes({"a": "b"})) == (["net"], ["vol"])
    assert len(opened) == 1
    opened[0].shutdown(socket.SHUT_RDWR)
    assert engine.container("one") is not None
    assert len(opened) == 2
    for each in opened:
        each.close()
