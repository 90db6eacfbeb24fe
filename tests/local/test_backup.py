"""A backup made under load, and the way back."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from .conftest import Clone

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def folder(platform: Clone) -> Iterator[Path]:
    """Where the clone's user may write; empty."""
    made = platform.root / "backups"
    made.mkdir()
    shutil.chown(made, *_owner(platform.root))
    yield made
    shutil.rmtree(made)


def _owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


def _api(platform: Clone, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=f"{platform.url}/prefect/api", headers=headers, timeout=90)


def _flows(api: httpx.Client) -> set[str]:
    return {each["name"] for each in api.post("/flows/filter", json={}).raise_for_status().json()}


def _make(api: httpx.Client, name: str) -> None:
    api.post("/flows/", json={"name": name}).raise_for_status()


def test_a_backup_under_load_brings_back_what_was_there(platform: Clone, token: str, folder: Path) -> None:
    with _api(platform, token) as api:
        _make(api, "before-the-backup")
        ended = threading.Event()

        def load() -> None:
            number = 0
            while not ended.is_set():
                _make(api, f"load-{number}")
                number += 1

        loading = threading.Thread(target=load)
        loading.start()
        try:
            file = Path(platform.invoke("prefect.backup", "--to", str(folder)).stdout.strip())
        finally:
            ended.set()
            loading.join()
        assert file.parent == folder
        assert file.stat().st_mode & 0o777 == 0o600
        assert [path.name for path in folder.iterdir()] == [file.name]
        copy = sqlite3.connect(file)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert "before-the-backup" in {row[0] for row in copy.execute("SELECT name FROM flow")}
        copy.close()

        _make(api, "after-the-backup")
        asked = platform.invoke("prefect.restore", "--file", str(file), code=2)
        assert "--yes" in asked.stderr
        assert "after-the-backup" in _flows(api)
        done = platform.invoke("prefect.restore", "--file", str(file), "--yes")
        assert "FAIL" not in done.stdout
        assert "its task run is recorded" in done.stdout
        found = _flows(api)
        assert "before-the-backup" in found
        assert "after-the-backup" not in found
    # Nothing is lost: what was there is kept under another name.
    kept = Path(done.stderr.partition("previous database: ")[2].splitlines()[0])
    before = sqlite3.connect(f"{kept.as_uri()}?mode=ro", uri=True)
    assert "after-the-backup" in {row[0] for row in before.execute("SELECT name FROM flow")}
    before.close()
    kept.unlink()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty (0 bytes)"),
        (b"no database at all", "is not a SQLite database"),
        (b"SQLite format 3\0" + b"x" * 4096, "damaged"),
    ],
)
def test_what_is_no_backup_is_refused_and_nothing_stops(
    platform: Clone, folder: Path, content: bytes, said: str
) -> None:
    file = folder / "bad.db"
    file.write_bytes(content)
    shutil.chown(file, *_owner(folder))
    before = platform.invoke("prefect.status", "--json").stdout.count('"pid')
    refused = platform.invoke("prefect.restore", "--file", str(file), "--yes", code=3)
    assert said in refused.stderr
    assert "nothing was changed" in refused.stderr
    assert "stopping" not in refused.stderr
    assert platform.invoke("prefect.status", "--json").stdout.count('"pid') == before


def test_paths_that_are_not_there(platform: Clone) -> None:
    assert "not a writable folder" in platform.invoke("prefect.backup", "--to", "/nowhere", code=2).stderr
    assert (
        "No such file or directory"
        in platform.invoke("prefect.restore", "--file", "/nowhere.db", "--yes", code=2).stderr
    )
