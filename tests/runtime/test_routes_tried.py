"""Routes tried in a throw-away Traefik: only what is wrong with the routes is said of the routes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform.errors import ApplyError
from prefect_platform.targets.local import routes

from .conftest import STACK, free_port, runtime_python

GOOD = b'http: {routers: {good: {rule: "PathPrefix(`/a`)", service: noop@internal}}}\n'
BAD = b'http: {routers: {bad: {rule: "PathPrefix(`/a`)", service: nowhere}}}\n'

PLUGINS = STACK.parent / "traefik"


@pytest.fixture
def traefik() -> Path:
    return Path(runtime_python()).with_name("traefik")


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield int(holder.getsockname()[1])


def test_a_port_that_another_took_meanwhile_is_not_the_routes_fault(
    traefik: Path, taken: int, tmp_path: Path
) -> None:
    ports = iter([taken, taken, free_port()])
    routes.check(traefik, {"own.yml": GOOD}, PLUGINS, tmp_path, free_port=lambda: next(ports))
    assert next(ports, None) is None, "each port was tried"


def test_without_any_port_the_routes_are_not_blamed(traefik: Path, taken: int, tmp_path: Path) -> None:
    with pytest.raises(ApplyError) as refused:
        routes.check(traefik, {"own.yml": GOOD}, PLUGINS, tmp_path, free_port=lambda: taken)
    assert "the routes could not be tried: " in refused.value.reason
    assert "run the command again" in refused.value.hint


def test_a_route_to_nowhere_is_refused_by_its_name(traefik: Path, tmp_path: Path) -> None:
    with pytest.raises(ApplyError, match=r"Traefik refuses the routes: bad@file: .*nowhere"):
        routes.check(traefik, {"own.yml": BAD}, PLUGINS, tmp_path)
    assert not list(tmp_path.iterdir()), "nothing is left behind"
