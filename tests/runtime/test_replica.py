"""The server under Litestream, with a storage that speaks S3: what a new volume gets back, and what happens when the storage is away."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.storage import BUCKET, KEYS, Storage, new_storage

from .conftest import STACK, Platform, Process, free_port, runtime_python, wait_for

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    with new_storage("127.0.0.1", free_port()) as made:
        yield made


class Replicated:
    """A server whose database is copied to the storage, below the name of the test."""

    def __init__(self, platform: Platform, template: Path, endpoint: str, path: str) -> None:
        self.platform, self.template = platform, template
        self.config = platform.folder / "litestream.yml"
        # As stacks/prefect/litestream.yml.j2 has it.
        self.config.write_text(
            f"""dbs:
  - path: {platform.database}
    replica:
      type: s3
      bucket: "{BUCKET}"
      path: "{path}"
      region: "us-east-1"
      endpoint: "{endpoint}"
      force-path-style: true
      access-key-id: ${{REPLICA_ACCESS_KEY_ID}}
      secret-access-key: ${{REPLICA_SECRET_ACCESS_KEY}}
      sync-interval: 1s
"""
        )
        self.environ = {
            **KEYS,
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PLATFORM_REPLICA_CONFIG": str(self.config),
            "PLATFORM_REPLICA_ENDPOINT": endpoint,
            "PREFECT_SERVER_DATABASE_DRIVER": "sqlite+aiosqlite",
            "PREFECT_SERVER_DATABASE_NAME": str(platform.database),
            # Of a machine whose certificates are its own: the storage here has none.
            "AWS_CA_BUNDLE": "",
        }

    def begin(self, *words: str) -> Process:
        command = [runtime_python(), str(STACK / "server.py"), *words]
        return self.platform.run("server", command, **self.environ)

    def server(self) -> Process:
        process = self.begin("--port", str(self.platform.port), "--template", str(self.template))
        wait_for(lambda: self.platform.healthy(process), "the server's health")
        return process

    def flow(self, name: str) -> None:
        httpx.post(f"{self.platform.url}/flows/", json={"name": name}).raise_for_status()

    def has(self, name: str) -> bool:
        return httpx.get(f"{self.platform.url}/flows/name/{name}").status_code == 200

    def lose(self) -> None:
        """The volume is gone."""
        shutil.rmtree(self.platform.database.parent)


@pytest.fixture
def replicated(
    platform: Platform, template: Path, storage: Storage, request: pytest.FixtureRequest
) -> Replicated:
    return Replicated(platform, template, storage.url, request.node.name)


def test_what_was_written_before_a_stop_comes_back_whole(replicated: Replicated, storage: Storage) -> None:
    server = replicated.server()
    for number in range(20):
        replicated.flow(f"flow-{number}")
    assert server.stop() == 0
    assert any(name.startswith("test_what_was_written") for name in storage.names())
    replicated.lose()
    again = replicated.server()
    assert all(replicated.has(f"flow-{number}") for number in range(20))
    assert "restored from the replica" in again.output()
    assert KEYS["REPLICA_SECRET_ACCESS_KEY"] not in again.output()


def test_after_a_restore_of_a_backup_the_replica_is_of_that(replicated: Replicated) -> None:
    """Litestream's own notes are about the file that was there before."""
    server, backup = replicated.server(), replicated.platform.folder / "backup.db"
    replicated.flow("in-the-backup")
    assert replicated.begin("backup", str(backup)).popen.wait(60) == 0
    replicated.flow("after-it")
    assert server.stop() == 0
    assert replicated.begin("restore", str(backup)).popen.wait(60) == 0
    server = replicated.server()
    assert not replicated.has("after-it")
    replicated.flow("after-the-restore")
    assert server.stop() == 0
    replicated.lose()
    replicated.server()
    assert replicated.has("in-the-backup")
    assert replicated.has("after-the-restore")
    assert not replicated.has("after-it")


def test_without_the_storage_no_empty_database_takes_its_place(
    platform: Platform, template: Path, storage: Storage
) -> None:
    away = Replicated(platform, template, f"http://127.0.0.1:{free_port()}", "away")
    ended = away.begin("--port", str(platform.port), "--template", str(template))
    assert ended.popen.wait(120) == 3
    assert "does not answer" in ended.output()
    assert "without it an empty database would take its place" in ended.output()
    assert not platform.database.exists()
    platform.database.parent.mkdir(exist_ok=True)
    shutil.copyfile(template, platform.database)
    # What is there is served, whatever the storage does.
    server = away.server()
    away.flow("served")
    server.signal(signal.SIGKILL)
    wait_for(lambda: _refused(platform.url), "the server's end after Litestream's")


def _refused(url: str) -> bool:
    try:
        httpx.get(f"{url}/health", verify=False)
    except httpx.ConnectError:
        return True
    return False
