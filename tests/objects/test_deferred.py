"""Deferred task runs that wait: as they should, or because the server has lost them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect
from websockets.sync.connection import Connection
from websockets.typing import Subprotocol

from prefect_platform.checks.deferred import deferred
from prefect_platform.errors import CheckFailed
from prefect_platform.provisioning.prefect.api import PrefectApi


@pytest.fixture
def key(server: str) -> Iterator[str]:
    """Of a task of which no task run is left behind."""
    name = f"send_mail-{uuid.uuid4().hex[:8]}"
    yield name
    url = f"{server}/prefect/api/task_runs"
    for each in httpx.post(f"{url}/filter", json={}).raise_for_status().json():
        if each["task_key"] == name:
            httpx.delete(f"{url}/{each['id']}").raise_for_status()


def _make(server: str, key: str, state: str = "SCHEDULED") -> str:
    """As `task.delay()` does it."""
    body = {
        "task_key": key,
        "dynamic_key": str(uuid.uuid4()),
        "name": key,
        "state": {"type": state, "state_details": {"deferred": state == "SCHEDULED"}},
    }
    made = httpx.post(f"{server}/prefect/api/task_runs/", json=body).raise_for_status()
    return str(made.json()["id"])


@contextmanager
def _task_worker(server: str, key: str) -> Iterator[Connection]:
    """One that takes what it gets and never says what became of it."""
    url = f"{server.replace('http', 'ws')}/prefect/api/task_runs/subscriptions/scheduled"
    with connect(url, subprotocols=[Subprotocol("prefect")], proxy=None) as socket:
        _say(socket, {"type": "auth", "token": None})
        assert json.loads(socket.recv(30))["type"] == "auth_success"
        _say(socket, {"type": "subscribe", "keys": [key], "client_id": key})
        yield socket


def _say(socket: Connection, message: dict[str, Any]) -> None:
    socket.send(json.dumps(message))


def test_what_waits_is_red_only_if_its_task_worker_is_idle(api: PrefectApi, server: str, key: str) -> None:
    assert deferred(api) == "none waits for more than 5 min"
    made = {_make(server, key), _make(server, key)}
    assert "none" in deferred(api), "it has not waited for minutes"
    assert deferred(api, 0) == "2 deferred task runs of send_mail wait: no task worker serves them"
    with _task_worker(server, key) as socket:
        for _ in range(2):
            assert json.loads(socket.recv(30))["id"] in made
            _say(socket, {"type": "ack"})
        with pytest.raises(CheckFailed) as lost:
            deferred(api, 0)
        assert lost.value.reason.startswith("2 deferred task runs of send_mail Scheduled for more than 0 min")
        assert "prefect.restart" in lost.value.hint
        _make(server, key, "RUNNING")
        assert deferred(api, 0) == "2 deferred task runs of send_mail wait: their task workers are busy"
