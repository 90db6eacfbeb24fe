"""Releases on the host: back to an earlier one, with the databases of then when the schema has changed; digests; what is deleted."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from prefect_platform.targets.docker import releases
from prefect_platform.targets.docker.host import Host
from prefect_platform.targets.docker.runner import LocalRunner
from prefect_platform_lab import LabHost
from tests.local.conftest import free_ports

from .conftest import Docker
from .vps import Vps, containers

pytestmark = pytest.mark.timeout(900)
IMAGE, NEWER = "prefecthq/prefect:3.8.8-python3.12", "prefecthq/prefect:3.8.9-python3.12"
WORKER = "platform-prefect-worker-lab"


def _worker_environment(docker: Docker) -> list[str]:
    return sorted(containers(docker)[WORKER]["Config"]["Env"])


def _flow(client: httpx.Client, name: str) -> None:
    client.post("/flows/", json={"name": name}).raise_for_status()


def _flows(client: httpx.Client) -> set[str]:
    found = client.post("/flows/filter", json={})
    found.raise_for_status()
    return {each["name"] for each in found.json()}


def test_a_rollback_runs_the_release_before(standing: Vps, docker: Docker) -> None:
    before = _worker_environment(docker)
    standing.settings["prefect"] = {"workers": [{"name": "default", "pool": "default", "poll_seconds": 7}]}
    standing.write()
    standing.invoke("prefect.setup")
    assert "PREFECT_WORKER_QUERY_SECONDS=7" in _worker_environment(docker)
    done = standing.invoke("prefect.rollback")
    assert "the next setup deploys them again" in done.stderr
    assert _worker_environment(docker) == before
    marks = [line[0] for line in standing.invoke("prefect.releases").stdout.splitlines()]
    assert marks[0] == " "
    assert marks.count("*") == 1
    assert "prefect.rollback" in standing.invoke("platform.history").stdout
    assert "7" in standing.invoke("prefect.plan").stdout
    standing.settings["prefect"] = {}
    standing.write()


@pytest.fixture
def newer(standing: Vps, docker: Docker) -> Iterator[Vps]:
    """The platform after an upgrade to an image of another version."""
    docker("tag", IMAGE, NEWER)
    with standing.client() as client:
        _flow(client, "before-the-upgrade")
    standing.settings["prefect"] = {"image": NEWER}
    standing.write()
    yield standing
    standing.settings["prefect"] = {}
    standing.write()


def test_back_across_a_schema_change_only_with_the_databases_of_then(
    newer: Vps, docker: Docker, ssh: Callable[..., str]
) -> None:
    old = ssh("readlink /opt/platform/lab/prefect/current").strip().removeprefix("releases/")
    assert "dumping database prefect" in newer.invoke("prefect.setup").stderr
    assert ssh(f"stat -c %a /opt/platform/lab/postgres/dumps/prefect-{old}.dump").strip() == "600"
    with newer.client() as client:
        _flow(client, "after-the-upgrade")
        refused = newer.invoke("prefect.rollback", "--to", old, code=2)
        assert "the database schema may have changed in between" in refused.stderr
        assert f"--to {old} --restore" in refused.stderr
        assert _flows(client) >= {"before-the-upgrade", "after-the-upgrade"}
        done = newer.invoke("prefect.rollback", "--to", old, "--restore")
        assert "restoring database prefect" in done.stderr
        assert "before-the-upgrade" in _flows(client)
        assert "after-the-upgrade" not in _flows(client)
    assert containers(docker)["platform-prefect-server-lab"]["Config"]["Image"] == IMAGE
    # What was there in between is not lost either.
    assert "-rolled-back.dump" in ssh("ls /opt/platform/lab/postgres/dumps")
    assert "Completed" in newer.invoke("prefect.smoke").stdout


def test_a_backup_leaves_the_host_and_comes_back(
    standing: Vps, ssh: Callable[..., str], tmp_path: Path
) -> None:
    with standing.client() as client:
        _flow(client, "before-the-backup")
        file = Path(standing.invoke("prefect.backup", "--to", str(tmp_path)).stdout.strip())
        assert [path.name for path in tmp_path.iterdir()] == [file.name]
        assert file.stat().st_mode & 0o777 == 0o600
        _flow(client, "after-the-backup")
        wrong = tmp_path / "wrong.dump"
        wrong.write_bytes(b"no dump at all")
        refused = standing.invoke("prefect.restore", "--file", str(wrong), "--yes", code=3)
        assert "not a dump of PostgreSQL" in refused.stderr
        # A dump's beginning, and then nothing: Postgres itself finds that out.
        wrong.write_bytes(file.read_bytes()[:2000])
        broken = standing.invoke("prefect.restore", "--file", str(wrong), "--yes", code=6)
        assert "the database is as it was" in broken.stderr
        assert _flows(client) >= {"before-the-backup", "after-the-backup"}
        done = standing.invoke("prefect.restore", "--file", str(file), "--yes")
        assert "its task run is recorded" in done.stdout
        assert "before-the-backup" in _flows(client)
        assert "after-the-backup" not in _flows(client)
    kept = done.stderr.partition("previous database: ")[2].splitlines()[0].partition(":")[2]
    assert ssh(f"stat -c %a {kept}").strip() == "600"
    assert "prefect.restore" in standing.invoke("platform.history").stdout


def test_more_connections_than_postgres_takes_are_refused_beforehand(standing: Vps) -> None:
    standing.settings["prefect"] = {"replicas": 8}
    standing.write()
    refused = standing.invoke("prefect.setup", code=2)
    standing.settings["prefect"] = {}
    standing.write()
    assert "platform.postgres.max_connections: 100" in refused.stderr
    assert "prefect 140" in refused.stderr


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A real registry on this machine; its address."""
    (port,) = free_ports(1)
    config = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    file = tmp_path / "registry.yml"
    file.write_text(yaml.safe_dump(config))
    process = subprocess.Popen(["docker-registry", "serve", str(file)])
    try:
        _until_it_answers(f"http://127.0.0.1:{port}/v2/")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _until_it_answers(url: str) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < end, f"{url} does not answer"
        time.sleep(0.1)


def test_a_pinned_image_stays_when_its_tag_moves(standing: Vps, docker: Docker, registry: str) -> None:
    image = f"{registry}/redis:8.10.2"
    docker("tag", "redis:8.10.2", image)
    docker("push", "-q", image)
    standing.settings["redis"] = {"image": image}
    standing.write()
    said = standing.invoke("platform.pin-images")
    assert "images.lock: 1 images" in said.stderr
    assert "postgres:17.11 was built on the host" in said.stderr
    (digest,) = (line.split()[1] for line in said.stdout.splitlines())
    lock = standing.root / "images.lock"
    assert yaml.safe_load(lock.read_text()) == {image: digest}
    # Somebody moves the tag to another image.
    docker("tag", "postgres:17.11", image)
    docker("push", "-q", image)
    standing.invoke("redis.setup")
    assert containers(docker)["platform-redis-lab"]["Config"]["Image"] == f"{image}@{digest}"
    lock.unlink()
    del standing.settings["redis"]
    standing.write()
    standing.invoke("redis.setup")


def test_images_that_no_release_names_are_deleted(host: LabHost, docker: Docker, tmp_path: Path) -> None:
    for tag in ("gone", "shared", "kept"):
        docker("tag", "redis:8.10.2", f"pruned:{tag}")
    for number in range(11):
        image = {0: "gone", 1: "shared"}.get(number, "kept")
        _release(tmp_path / "lab" / "prefect", f"20260101T0000{number:02}Z-a", f"pruned:{image}")
    _release(tmp_path / "lab" / "redis", "20260101T000000Z-a", "pruned:shared")
    there = Host(LocalRunner({"PATH": os.environ["PATH"], "DOCKER_HOST": host.docker_host}), str(tmp_path))
    folder = str(tmp_path / "lab" / "prefect")
    releases.delete(there, folder, *releases.outdated(there, folder, {"pruned:kept"}))
    left = docker("image", "ls", "--format", "{{.Tag}}", "pruned").split()
    assert sorted(left) == ["kept", "shared"]
    assert len(list((tmp_path / "lab" / "prefect" / "releases").iterdir())) == 9
    for tag in left:
        docker("image", "rm", f"pruned:{tag}")


def _release(stack: Path, name: str, image: str) -> None:
    folder = stack / "releases" / name
    folder.mkdir(parents=True)
    (folder / "compose.yml").write_text(f"services:\n  one:\n    image: {image}\n")
