"""The platform under load, while its parts are killed beneath it: what its clients notice."""

from __future__ import annotations

import os
import select
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from . import load
from .conftest import Clone

pytestmark = pytest.mark.timeout(600)

SERVICES = ("prefect-server", "gateway-verifier")
RUNS = 400
"""bench/run.py has a thousand of them."""
SECONDS, KILLS = 40, (8, 26)
"""Of load, and when in it each of the services ends."""


@dataclass(frozen=True)
class Ended:
    """When a process was sent its signal, and when it was gone."""

    sent: float
    gone: float


def _end(pid: int, number: signal.Signals) -> Ended:
    """Send the signal and wait for the end; unlike the pid, which stays until its parent looks, a pidfd tells it at once."""
    watched = os.pidfd_open(pid)
    try:
        sent = time.monotonic()
        signal.pidfd_send_signal(watched, number)
        assert select.select([watched], [], [], 60)[0], f"still there 60 s after {number.name}"
        return Ended(sent, time.monotonic())
    finally:
        os.close(watched)


def _load_and_end(
    platform: Clone, token: str, flow: str, seconds: int, kills: tuple[int, int], number: signal.Signals
) -> tuple[list[load.Outcome], list[Ended]]:
    """Steady load, under which SERVICES get the signal so many seconds after its start; both must come back."""
    old = platform.pids()
    ended = []
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        running = pool.submit(load.steady, platform.url, token, flow, seconds)
        for service, after in zip(SERVICES, kills, strict=True):
            time.sleep(max(0.0, began + after - time.monotonic()))
            ended.append(_end(old[service], number))
        outcomes = running.result()
    new = platform.pids()
    assert not [service for service in SERVICES if new[service] == old[service]]
    assert ended[-1].gone < outcomes[-1].start, "the last end was not under load"
    return outcomes, ended


def _assert_load(outcomes: list[load.Outcome], seconds: int, ended: list[Ended]) -> None:
    """As many as promised, mixed as promised, and going on while a service was away: none waited with its start for it."""
    assert len(outcomes) == load.RATE * seconds
    started = {kind: sum(each.name.startswith(kind) for each in outcomes) for kind in ("GET", "POST", "WS")}
    assert started == {kind: load.MIX.count(kind) * len(outcomes) // len(load.MIX) for kind in started}
    for end in ended:
        back = min(each.end for each in outcomes if each.start > end.gone)
        held = [each for each in outcomes if end.gone < each.start < back]
        assert len(held) > 5


def _count(platform: Clone, token: str, **filters: Any) -> int:
    """Flow runs that the API counts."""
    answer = httpx.post(
        f"{platform.url}/prefect/api/flow_runs/count",
        headers={"Authorization": f"Bearer {token}"},
        json=filters,
        timeout=60,
    )
    answer.raise_for_status()
    return int(answer.json())


def _created(outcomes: list[load.Outcome]) -> list[load.Outcome]:
    return [each for each in outcomes if each.name.endswith("/flow_runs/")]


def test_a_restart_under_load_fails_no_request(platform: Clone, token: str) -> None:
    flow = f"load-{uuid.uuid4().hex}"
    outcomes, ended = _load_and_end(platform, token, flow, SECONDS, KILLS, signal.SIGTERM)
    assert [each for each in outcomes if each.error] == []
    _assert_load(outcomes, SECONDS, ended)
    # A request that the gateway repeated must not have been done twice.
    assert _count(platform, token, flows={"name": {"any_": [flow]}}) == len(_created(outcomes))


def test_a_kill_under_load_fails_only_what_was_in_flight(platform: Clone, token: str) -> None:
    flow = f"load-{uuid.uuid4().hex}"
    outcomes, ended = _load_and_end(platform, token, flow, SECONDS, KILLS, signal.SIGKILL)
    failed = [each for each in outcomes if each.error]
    in_flight = [
        each for each in failed if any(each.start < end.gone and each.end > end.sent for end in ended)
    ]
    assert failed == in_flight
    _assert_load(outcomes, SECONDS, ended)
    # What was answered is kept; what failed may have been done before the kill, or not.
    done = [each for each in _created(outcomes) if not each.error]
    assert len(done) <= _count(platform, token, flows={"name": {"any_": [flow]}}) <= len(_created(outcomes))


def test_sixteen_clients_finish_all_their_runs(platform: Clone, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    done = load.finish_runs(f"{platform.url}/prefect/api", headers, clients=16, total=RUNS)
    assert done.errors == ()
    ours = {"id": {"any_": [done.flow]}}
    completed = {"state": {"type": {"any_": ["COMPLETED"]}}}
    assert _count(platform, token, flows=ours, flow_runs=completed) == RUNS
    assert _count(platform, token, flows=ours) == RUNS


def test_a_restart_of_traefik_under_load_turns_nobody_away(platform: Clone, token: str) -> None:
    """Neither 404, which it says before it has its routes, nor a refusal: also after the process that keeps clients waiting was killed."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(load.steady, platform.url, token, f"load-{uuid.uuid4().hex}", SECONDS)
        time.sleep(4)
        platform.invoke("traefik.restart")
        _end(platform.pids()["traefik-listener"], signal.SIGKILL)
        time.sleep(4)
        platform.invoke("traefik.restart", "--service", "gateway")
        restarted = time.monotonic()
        outcomes = running.result()
    failed = [each for each in outcomes if each.error]
    # A server may close a kept-alive connection at any time (RFC 9112, 9.5): whoever writes to it at that moment sends his request again.
    closed = ("RemoteProtocolError", "ReadError", "WriteError")
    assert [each for each in failed if not each.error.startswith(closed)] == []
    assert len(failed) <= 2
    assert restarted < outcomes[-1].start - 5
