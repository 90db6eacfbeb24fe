"""A restore reaches a machine that keeps exiting because of the very database that it replaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from prefect_platform.errors import ApplyError, PlatformError, PreflightError
from prefect_platform.planning.where import Where
from prefect_platform.targets.fly import transit


class Machine:
    """Each look finds the next state of the server; an empty one finds the machine between two starts."""

    def __init__(self, *states: str) -> None:
        self.states, self.done = list(states), list[str]()

    def status(self) -> dict[str, Any]:
        state = self.states.pop(0)
        if not state:
            raise ApplyError("machine not started")
        if state == "no login":
            raise PreflightError("flyctl is not logged in")
        return {"processes": [{"name": "prefect-server", "statename": state}]}

    def stop(self, services: Sequence[str]) -> None:
        self.done.append(f"stop {' '.join(services)}")

    def restart(self, services: Sequence[str]) -> None:
        self.done.append(f"restart {' '.join(services)}")

    def where(self, stack: str, scope: str = "environment") -> Where:
        raise NotImplementedError

    def run_in(self, stack: str, argv: Sequence[str]) -> str:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("states", "done"),
    [
        (["RUNNING"], []),
        (["STOPPED"], []),
        (["BACKOFF"], ["stop prefect-server"]),
        (["", "", "STARTING"], ["stop prefect-server"]),
    ],
    ids=["runs", "was stopped", "keeps exiting", "and the machine too"],
)
def test_a_server_that_keeps_exiting_is_stopped_before_a_file_comes(
    monkeypatch: pytest.MonkeyPatch, states: list[str], done: list[str]
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    machine = Machine(*states)
    with transit.server_down_if_it_exits(machine, "prefect-server"):
        assert machine.done == done
    assert machine.done == done


def test_it_is_started_again_where_nothing_was_replaced() -> None:
    machine = Machine("FATAL")
    with pytest.raises(PlatformError), transit.server_down_if_it_exits(machine, "prefect-server"):
        raise PlatformError("no backup")
    assert machine.done == ["stop prefect-server", "restart prefect-server"]


def test_what_waiting_does_not_mend_is_said_at_once() -> None:
    machine = Machine("no login", "BACKOFF")
    with (
        pytest.raises(PreflightError, match="not logged in"),
        transit.server_down_if_it_exits(machine, "prefect-server"),
    ):
        raise AssertionError("it goes on without a login")
    assert machine.done == []
