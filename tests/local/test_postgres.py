"""Prefect's database elsewhere: behind a real pooler in transaction mode, with the URL as Supabase gives it."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.postgres import Cluster

from .conftest import Clone
from .pooler import PASSWORD, POOLER_PORT, USER, Elsewhere, cluster, pooler, url_of

__all__ = ["cluster", "pooler"]
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def elsewhere(
    clone: Clone, first_setup: subprocess.CompletedProcess[str], pooler: Path
) -> Iterator[Elsewhere]:
    made = Elsewhere(clone, "pooled")
    made.declare(url_of("postgres"))
    yield made
    made.remove()


def test_without_its_password_nothing_is_begun(elsewhere: Elsewhere) -> None:
    said = elsewhere.invoke("prefect.setup", code=3).stderr
    assert "read -rs PREFECT_SERVER_DATABASE_PASSWORD" in said
    assert not (elsewhere.state / "data").exists()


def test_a_wrong_password_is_one_line(elsewhere: Elsewhere) -> None:
    failed = elsewhere.invoke("prefect.setup", code=5, password="not-the-password")
    said = failed.stdout + failed.stderr
    assert f"127.0.0.1:{POOLER_PORT}/postgres: refuses the password of {USER}" in said
    assert "not-the-password" not in said
    assert "Traceback" not in said


def test_it_runs_behind_a_pooler(elsewhere: Elsewhere, pooler: Path) -> None:
    done = elsewhere.invoke("prefect.setup", password=PASSWORD)
    assert "its task run is recorded" in done.stdout
    assert "is read as postgresql+asyncpg://" in done.stderr
    assert "prepared statements are disabled" in done.stderr
    assert "nothing changed" in elsewhere.invoke("prefect.setup").stderr
    assert elsewhere.invoke("prefect.status").returncode == 0

    with elsewhere.client() as client:
        flow = client.post("/flows/", json={"name": "pooled"}).json()["id"]

        def run(number: int) -> int:
            return client.post("/flow_runs/", json={"flow_id": flow, "name": f"run {number}"}).status_code

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(run, range(200))) == {201}
        counted = client.post("/flow_runs/count", json={"flows": {"id": {"any_": [flow]}}})
        assert counted.json() == 200
    log = (elsewhere.state / "logs" / "prefect-server.log").read_text()
    assert "prepared statement" not in log
    assert PASSWORD not in log
    assert "prepared statement" not in (pooler / "log").read_text()


def test_the_password_is_with_the_secrets_only(elsewhere: Elsewhere) -> None:
    state = elsewhere.state
    holding = {
        str(path.relative_to(state))
        for path in state.rglob("*")
        if path.is_file() and PASSWORD[:8].encode() in path.read_bytes()
    }
    assert holding == {"secrets/prefect.json", "secrets/prefect.env"}


def test_a_schema_that_is_not_ours_is_refused(elsewhere: Elsewhere, cluster: Cluster) -> None:
    revision = cluster.sql("postgres", "SELECT version_num FROM alembic_version")[0][0]
    assert re.fullmatch(r"[0-9a-f]+", revision)
    elsewhere.invoke("prefect.stop")
    cluster.sql("postgres", "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    try:
        failed = elsewhere.invoke("prefect.setup", code=5)
        assert "schema revision ffffffffffff is unknown to Prefect" in failed.stdout + failed.stderr
    finally:
        cluster.sql("postgres", f"UPDATE alembic_version SET version_num = '{revision}'")
    end = time.monotonic() + 60
    while elsewhere.invoke("prefect.setup", code=None).returncode and time.monotonic() < end:
        pass
    assert elsewhere.invoke("prefect.status").returncode == 0
