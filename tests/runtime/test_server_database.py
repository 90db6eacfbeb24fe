"""Concurrent writers, new databases, and databases that must not be started on."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
from pathlib import Path

import httpx
import pytest

from .conftest import STACK, Platform, Process, free_port, runtime_python
from .load import flow_run_load

RUNS = 160
"""Stock Prefect fails with a third of it, as the test below shows."""


def launcher(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [runtime_python(), str(STACK / "server.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env=env)


def test_sixteen_concurrent_writers_get_no_error(platform: Platform, template: Path) -> None:
    platform.server("--template", str(template))
    outcome = flow_run_load(platform.url, clients=16, runs=RUNS)
    assert (outcome.requests, dict(outcome.errors)) == (3 * RUNS, {})
    done = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    assert httpx.post(f"{platform.url}/flow_runs/count", json=done).json() == RUNS


@pytest.mark.timeout(300)
def test_the_same_load_fails_on_the_stock_server(platform: Platform, template: Path) -> None:
    platform.database.parent.mkdir()
    shutil.copy(template, platform.database)
    platform.server(stock=True)
    assert flow_run_load(platform.url, clients=16, runs=60).errors.total() > 0


def test_a_new_database_comes_from_the_template(platform: Platform, template: Path) -> None:
    memo = platform.database.parent / "memo_store.toml"
    memo.parent.mkdir()
    memo.write_text('block_auto_registration = "of a database that is gone"\n')
    server = platform.server("--template", str(template))
    assert stat.S_IMODE(platform.database.stat().st_mode) == 0o600
    assert "gone" not in memo.read_text()
    assert len(httpx.post(f"{platform.url}/block_types/filter", json={}).json()) > 5
    httpx.post(f"{platform.url}/flows/", json={"name": "kept"}).raise_for_status()
    assert server.stop() == 0
    platform.server("--template", str(template))
    assert httpx.get(f"{platform.url}/flows/name/kept").status_code == 200
    assert [path.name for path in platform.database.parent.glob(".prefect.db*")] == []


def test_without_room_for_the_template_no_empty_database_is_left(platform: Platform, template: Path) -> None:
    """An empty file would be taken for a damaged database by every later start."""
    folder = platform.database.parent
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(folder)], check=True)
    try:
        ended = launcher("--port", str(free_port()), "--template", str(template), env=platform.env())
        left = [path.name for path in folder.iterdir() if "prefect.db" in path.name]
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert ended.returncode == 3
    assert "cannot be made: No space left on device" in ended.stderr
    assert left == []


def test_a_template_holds_nothing_of_an_installation(template: Path) -> None:
    with sqlite3.connect(f"{template.as_uri()}?mode=ro", uri=True) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        filled = {
            name for name in tables if connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
        }
    assert filled == {"alembic_version", "block_type", "block_schema", "block_schema_reference"}


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is not a database" * 300)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _torn_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 4096 * 8)


def _truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def _foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE other (id integer)")


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")


def _log_without_database(path: Path) -> None:
    path.with_name(path.name + "-wal").write_bytes(b"x" * 4096)
    path.unlink()


DAMAGES = {
    _garbage: "not a SQLite database",
    _empty: "is empty",
    _torn_page: "damaged",
    _truncated: "damaged",
    _foreign: "not Prefect's",
    _newer: "newer Prefect",
    _log_without_database: "is missing but",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_check_database_names_the_file_and_the_next_step(
    template: Path, tmp_path: Path, damage: object
) -> None:
    path = tmp_path / "prefect.db"
    shutil.copy(template, path)
    assert launcher("check-database", str(path)).returncode == 0
    assert callable(damage)
    damage(path)
    before = path.read_bytes() if path.exists() else None
    done = launcher("check-database", str(path))
    assert done.returncode == 3
    assert done.stdout == ""
    assert str(path) in done.stderr
    assert DAMAGES[damage] in done.stderr
    assert done.stderr.count("\n") == 1
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_missing_database_is_fine(tmp_path: Path) -> None:
    assert launcher("check-database", str(tmp_path / "prefect.db")).returncode == 0


@pytest.mark.parametrize("damage", [_torn_page, _newer], ids=lambda damage: damage.__name__)
def test_the_server_refuses_to_start_on_a_damaged_database(
    platform: Platform, template: Path, damage: object
) -> None:
    platform.database.parent.mkdir()
    shutil.copy(template, platform.database)
    assert callable(damage)
    damage(platform.database)
    before = platform.database.read_bytes()
    done = launcher("--port", str(platform.port), "--template", str(template), env=platform.env())
    assert done.returncode == 3
    assert f"server.py: database {platform.database}" in done.stderr
    assert done.stderr.count("\n") == 1
    assert platform.database.read_bytes() == before
    configured = launcher("check-database", env=platform.env())
    assert configured.returncode == 3
    assert str(platform.database) in configured.stderr


def test_a_taken_port_is_reported_before_anything_is_created(platform: Platform, template: Path) -> None:
    holder = Process(
        [runtime_python(), "-m", "http.server", "--bind", "127.0.0.1", str(port := free_port())],
        platform.env(),
        platform.folder / "holder.log",
    )
    platform.processes.append(holder)
    while "Serving" not in holder.output() and holder.popen.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/")
            break
        except httpx.TransportError:
            continue
    done = launcher("--port", str(port), "--template", str(template), env=platform.env())
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert not platform.database.exists()
