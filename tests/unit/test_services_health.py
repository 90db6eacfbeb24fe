"""The health check of the background services, on what Redis says. With Redis and the services themselves: tests/lab."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from .conftest import ROOT

NOW = 1_000_000.0


@pytest.fixture(scope="module")
def health() -> ModuleType:
    place = importlib.util.spec_from_file_location(
        "services_health", ROOT / "stacks" / "prefect" / "services_health.py"
    )
    assert place is not None
    assert place.loader is not None
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize(
    ("beats", "due", "wrong"),
    [
        ({"me#1": NOW - 1}, {"task": NOW + 5}, None),
        ({"me#1": NOW - 40, "me#2": NOW - 2}, {}, None),
        ({"other#1": NOW - 1}, {}, "no heartbeat of the background services of this container"),
        ({"me#1": NOW - 30}, {}, "last heartbeat 30 s ago: dead or frozen"),
        ({"me#1": NOW - 1}, {"a": NOW, "b": NOW - 100}, "a periodic task has been due for 100 s: the scheduler does not run"),
    ],
)  # fmt: skip
def test_what_is_wrong(
    health: ModuleType, beats: dict[str, float], due: dict[str, float], wrong: str | None
) -> None:
    keys = {"prefect:workers": beats, "prefect:queue": due}

    def ask(command: str, key: str, *_: str) -> list[str]:
        return [text for name, score in keys[key].items() for text in (name, str(score))]

    assert health.problem(ask, "me", NOW) == wrong


def test_the_protocol(health: ModuleType, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, redis = pair
    with ours.makefile("rb") as stream:
        _talk(health.client(ours, stream), redis)


def _talk(ask: Callable[..., object], redis: socket.socket) -> None:
    redis.sendall(b"+OK\r\n*3\r\n$3\r\nmn\r\r\n$4\r\n12.5\r\n$-1\r\n:7\r\n-WRONGPASS no\r\n")
    assert ask("AUTH", "a b") == "OK"
    assert redis.recv(99) == b"*2\r\n$4\r\nAUTH\r\n$3\r\na b\r\n"
    assert ask("ZRANGE") == ["mn\r", "12.5", None]
    assert ask("DEL") == "7"
    with pytest.raises(ValueError, match="WRONGPASS no"):
        ask("AUTH")
    redis.shutdown(socket.SHUT_WR)
    with pytest.raises(ValueError, match="the connection ended"):
        ask("GET")
