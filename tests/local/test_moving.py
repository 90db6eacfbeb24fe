"""What SQLite has, moved to a PostgreSQL behind a real pooler: all of it, or nothing."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext

from tests.browsing import Opened
from tests.postgres import Cluster

from .conftest import Clone
from .pooler import PASSWORD, USER, Elsewhere, cluster, pooler, url_of

__all__ = ["cluster", "pooler"]
pytestmark = [pytest.mark.timeout(600), pytest.mark.browser]
RUNS = 60


@pytest.fixture(scope="module")
def moving(
    clone: Clone, first_setup: subprocess.CompletedProcess[str], pooler: Path, cluster: Cluster
) -> Iterator[Elsewhere]:
    """On SQLite, with a history."""
    cluster.sql("postgres", "CREATE DATABASE moved")
    cluster.sql("moved", f'GRANT ALL ON DATABASE moved TO "{USER}"')
    cluster.sql("moved", f'GRANT ALL ON SCHEMA public TO "{USER}"')
    made = Elsewhere(clone, "moving")
    made.declare(None)
    made.invoke("prefect.setup")
    with made.client() as client:
        _history(client)
    yield made
    made.remove()


def _history(client: httpx.Client) -> None:
    flow = client.post("/flows/", json={"name": "before-the-move"}).json()["id"]
    for number in range(RUNS):
        wanted = {"flow_id": flow, "name": f"old run {number}", "parameters": {"n": number, "none": None}}
        run = client.post("/flow_runs/", json=wanted).json()["id"]
        state = {"state": {"type": "COMPLETED", "name": "Completed", "message": "d\u00f6ne"}, "force": True}
        client.post(f"/flow_runs/{run}/set_state", json=state).raise_for_status()
    line = {
        "name": "test",
        "level": 20,
        "message": "a nul: \x00.",
        "timestamp": "2026-01-01T00:00:00Z",
        "flow_run_id": run,
    }
    client.post("/logs/", json=[line]).raise_for_status()
    kind = client.get("/block_types/slug/secret").json()["id"]
    schema = client.post("/block_schemas/filter", json={"block_schemas": {"block_type_id": {"any_": [kind]}}})
    block = {"name": "kept", "block_type_id": kind, "block_schema_id": schema.json()[0]["id"]}
    client.post("/block_documents/", json={**block, "data": {"value": "hush"}}).raise_for_status()
    client.post("/variables/", json={"name": "kept", "value": {"deep": [1, None]}}).raise_for_status()


def _rows(file: Path) -> dict[str, int]:
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for name in names
            if name != "alembic_version" and not name.startswith("sqlite_")
        }


def _shown(client: httpx.Client) -> dict[str, Any]:
    """What a client sees of the history."""
    runs: list[Any] = []
    while True:
        wanted = {"limit": 200, "offset": len(runs), "flows": {"name": {"any_": ["before-the-move"]}}}
        found = client.post("/flow_runs/filter", json={**wanted, "sort": "ID_DESC"}).json()
        runs += found
        if not found:
            break
    for run in runs:
        # Reckoned when asked.
        run.pop("estimated_start_time_delta", None)
    blocks = "/block_types/slug/secret/block_documents/name/kept?include_secrets=true"
    return {
        "runs": runs,
        "variable": client.get("/variables/name/kept").json(),
        "secret": client.get(blocks).json()["data"],
        "automations": [each["name"] for each in client.post("/automations/filter", json={}).json()],
    }


def test_it_asks_first_and_wants_somewhere_to_go(moving: Elsewhere) -> None:
    assert "add --yes" in moving.invoke("prefect.migrate-to-postgres", code=2).stderr
    said = moving.invoke("prefect.migrate-to-postgres", "--yes", code=2).stderr
    assert "platform.prefect.database_url is not set" in said


def test_what_cannot_be_moved_stays_where_it_is(moving: Elsewhere, cluster: Cluster) -> None:
    moving.declare(url_of("moved"))
    failed = moving.invoke("prefect.migrate-to-postgres", "--yes", code=6, password="not-it")
    assert f"nothing was moved: 127.0.0.1:6543/moved: refuses the password of {USER}" in failed.stderr
    assert "Prefect runs on SQLite, as before" in failed.stderr
    assert "not-it" not in failed.stdout + failed.stderr
    moving.declare(None)
    assert moving.invoke("prefect.status").returncode == 0
    with moving.client() as client:
        assert len(_shown(client)["runs"]) == RUNS


def test_everything_is_moved_and_counted(moving: Elsewhere, cluster: Cluster) -> None:
    with moving.client() as client:
        before = _shown(client)
    assert before["secret"] == {"value": "hush"}
    moving.invoke("prefect.stop")
    file = moving.state / "data" / "prefect" / "prefect.db"
    rows = _rows(file)
    content = file.read_bytes()

    moving.declare(url_of("moved"))
    done = moving.invoke("prefect.migrate-to-postgres", "--yes", "--json", password=PASSWORD)
    moved = json.loads(done.stdout)["rows"]
    # A table that older versions had is left in SQLite, empty.
    assert moved == {name: number for name, number in rows.items() if number or name in moved}
    assert file.read_bytes() == content, "what was there is as it was"
    there = {name: cluster.sql("moved", f"SELECT count(*) FROM {name}")[0][0] for name in moved}
    fewer = {name for name in moved if there[name] < moved[name]}
    # What ended with the old server, and is counted anew by the one that runs now.
    assert fewer <= {"worker", "csrf_token", "automation_bucket"}

    with moving.client() as client:
        after = _shown(client)
        assert len(after["runs"]) == RUNS
        assert after == before
        nul = client.post("/logs/filter", json={"logs": {"timestamp": {"before_": "2026-01-02T00:00:00Z"}}})
        assert [each["message"] for each in nul.json()] == ["a nul: ."]


def test_the_pages_show_the_old_runs(moving: Elsewhere, browser: BrowserContext) -> None:
    with moving.client() as client:
        run = _shown(client)["runs"][0]
    page = browser.new_page()
    opened = Opened(page)
    page.goto(moving.invoke("gateway.login-url").stdout.strip())
    page.wait_for_url("**/prefect/**")
    page.goto(f"{moving.url}/prefect/v2/runs/flow-run/{run['id']}")
    opened.shows(run["name"])
    opened.shows("Completed")


def test_a_second_time_there_is_nothing_to_move(moving: Elsewhere, cluster: Cluster) -> None:
    """The command that was interrupted after the move goes on; one on PostgreSQL without a move is refused."""
    assert moving.invoke("prefect.migrate-to-postgres", "--yes").returncode == 0
    (moving.state / "data" / "prefect" / "moved-to-postgres.json").unlink()
    said = moving.invoke("prefect.migrate-to-postgres", "--yes", code=2).stderr
    assert "already runs on PostgreSQL" in said


def test_a_database_that_is_in_use_is_not_written_over(moving: Elsewhere, cluster: Cluster) -> None:
    moving.declare(None)
    moving.invoke("prefect.setup")
    flows = cluster.sql("moved", "SELECT count(*) FROM flow")
    moving.declare(url_of("moved"))
    with moving.client() as client:
        client.post("/flows/", json={"name": "newer"}).raise_for_status()
    failed = moving.invoke("prefect.migrate-to-postgres", "--yes", code=6).stderr
    assert "the PostgreSQL database is not empty" in failed
    assert cluster.sql("moved", "SELECT count(*) FROM flow") == flows
