"""What a restart leaves when it returns: each service does its work at that very moment, without a retry."""

from __future__ import annotations

import time
from datetime import datetime

import httpx
import pytest

from .conftest import Clone

pytestmark = pytest.mark.timeout(300)


def _restarted_at(platform: Clone, service: str) -> float:
    before = time.time()
    platform.invoke("prefect.restart", "--service", service)
    return before


def test_a_restarted_service_answers_when_the_command_returns(platform: Clone) -> None:
    _restarted_at(platform, "server")
    server = f"http://127.0.0.1:{platform.ports['prefect']}/prefect/api/ready"
    assert httpx.get(server, timeout=10).status_code == 200
    _restarted_at(platform, "verifier")
    assert httpx.get(f"http://127.0.0.1:{platform.ports['verifier_port']}/health").json()["status"] == "ok"
    _restarted_at(platform, "gateway")
    assert httpx.get(f"{platform.url}/prefect/api/ready").status_code == 401


def test_a_restarted_worker_has_reported_when_the_command_returns(platform: Clone, token: str) -> None:
    before = _restarted_at(platform, "worker")
    pool = f"{platform.url}/prefect/api/work_pools/default/workers/filter"
    workers = httpx.post(pool, json={}, headers={"Authorization": f"Bearer {token}"}).json()
    newest = max(datetime.fromisoformat(each["last_heartbeat_time"]).timestamp() for each in workers)
    assert newest > before


def test_a_service_that_cannot_start_ends_the_restart_with_exit_code_5(platform: Clone) -> None:
    """Its template is broken on purpose: the process ends again and again."""
    program = platform.state / "stacks" / "prefect" / "server.py"
    good = program.read_bytes()
    program.write_bytes(b"raise SystemExit('broken on purpose')\n")
    try:
        said = platform.invoke("prefect.restart", "--service", "server", code=5).stderr
        assert "restarted, but not ready: prefect-server: " in said
        assert "broken on purpose" in said
    finally:
        program.write_bytes(good)
        platform.invoke("prefect.restart", "--service", "server")
