"""Target fly: the image is built and run by a real Docker engine; flyctl is the stand-in beside the code that calls it.

The tests build on each other in the order of the file: one app serves them all.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from prefect_platform.lab import LabHost
from prefect_platform.targets import _fly_standin
from tests.local.conftest import free_ports

from .conftest import Docker
from .vps import Vps

pytestmark = pytest.mark.timeout(600)
APP = "tests-gateway"
CONTAINER = f"fly-{APP}"
READING = {
    "apps list",
    "status",
    "machine list",
    "volumes list",
    "secrets list",
    "releases",
    "machine exec",
    "platform regions",
    "logs",
}


class Fly:
    """The clone's environment `fly`, whose flyctl is the stand-in."""

    def __init__(self, vps: Vps, host: LabHost, folder: Path) -> None:
        self.vps, self.folder = vps, folder
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        programs = folder / "bin"
        programs.mkdir()
        flyctl = programs / "flyctl"
        flyctl.write_text(f'#!/bin/sh\nexec {sys.executable} {_fly_standin.__file__} "$@"\n')
        flyctl.chmod(0o755)
        path = f"{programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.environ = {
            "PATH": path,
            "FLY_STANDIN": str(folder),
            "FLY_STANDIN_PORT": str(port),
            "DOCKER_HOST": host.docker_host,
        }
        self.settings: dict[str, Any] = {
            "target": "fly",
            "fly": {"app": APP, "region": "iad"},
            "gateway": {"public_url": self.url},
            # Fly gives a machine five minutes to stop.
            "prefect": {"workers": [{"name": "default", "pool": "default", "drain_seconds": 5}]},
        }
        self.write()

    def write(self) -> None:
        self.vps.others["fly"] = self.settings
        self.vps.write()

    def invoke(self, *words: str, code: int | None = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        return self.vps.invoke(*words, code=code, env="fly", environ={**self.environ, **environ})

    def calls(self) -> list[list[str]]:
        """What flyctl was asked since the last look."""
        file = self.folder / "calls.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def writes(self) -> list[str]:
        kinds = [
            " ".join(words[:2]) if words[0] not in ("deploy", "status", "logs", "releases") else words[0]
            for words in self.calls()
        ]
        return [kind for kind in kinds if kind not in READING]

    def fault(self, kind: str, said: str = "") -> None:
        (self.folder / "faults.json").write_text(json.dumps({kind: {"said": said}}))

    def secrets(self) -> list[str]:
        files = (self.vps.root / ".state" / "fly" / "secrets").glob("*.json")
        held = [
            json.loads(file.read_text()) for file in files if file.stem in ("gateway", "prefect", "operator")
        ]
        return [value for each in held for value in each.values()]

    def state(self) -> Any:
        return json.loads((self.folder / "fly.json").read_text())

    def change(self, **values: Any) -> None:
        """Fly's side, changed by somebody else."""
        (self.folder / "fly.json").write_text(json.dumps({**self.state(), **values}))


@pytest.fixture(scope="module")
def fly(vps: Vps, host: LabHost, docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fly]:
    made = Fly(vps, host, tmp_path_factory.mktemp("fly"))
    try:
        yield made
    finally:
        del vps.others["fly"]
        vps.write()
        label = f"label={_fly_standin.LABEL}"
        for kind in ("container", "volume", "image"):
            words = ["ls", "-q", *(["-a"] if kind == "container" else []), "--filter", label]
            if found := docker(kind, *words).split():
                docker(kind, "rm", "-f", *set(found), code=None)


def test_without_flyctl_or_a_login_nothing_is_begun(fly: Fly) -> None:
    bare = fly.environ["PATH"].partition(":")[2]
    if not shutil.which("flyctl", path=bare):
        said = fly.invoke("prefect.setup", code=3, PATH=bare).stderr
        assert "flyctl is not installed" in said
    (fly.folder / "fly.json").write_text(json.dumps({**_fly_standin.EMPTY, "login": False}))
    said = fly.invoke("prefect.setup", code=3).stderr
    assert "flyctl is not logged in" in said
    assert "fly auth login" in said
    assert fly.writes() == []
    (fly.folder / "fly.json").unlink()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"app": ""}, "platform.fly.app: target fly needs the app's name"),
        ({"app": "taken-by-somebody"}, "the name 'taken-by-somebody' is taken on Fly.io"),
        ({"app": APP, "region": "xyz"}, "Fly has no region 'xyz'"),
        ({"app": APP, "memory": "512mb"}, "is too little for gateway, server and a worker"),
        ({"app": APP, "memory": "4gb"}, "is more than 1 shared CPUs may have"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_made(
    fly: Fly, settings: dict[str, Any], said: str
) -> None:
    kept, fly.settings["fly"] = fly.settings["fly"], settings
    fly.write()
    refused = fly.invoke("prefect.setup", code=None)
    fly.settings["fly"] = kept
    fly.write()
    assert refused.returncode in (2, 3)
    assert said in refused.stderr
    fly.calls()
    assert not (fly.folder / "fly.json").exists() or fly.state()["apps"] == {}


def test_from_nothing_to_a_machine_that_runs_a_flow(fly: Fly) -> None:
    done = fly.invoke("prefect.setup")
    canary = next(line for line in done.stdout.splitlines() if " canary " in line)
    assert "its task run is recorded" in canary
    assert "FAIL" not in done.stdout
    calls = fly.calls()
    kinds = [" ".join(words[:2]) for words in calls]
    for step in ("apps create", "volumes create", "secrets import"):
        assert kinds.count(step) == 1, step
    values = fly.secrets()
    assert len(values) >= 3
    assert not [value for value in values if value in json.dumps(calls) + done.stdout + done.stderr]


def test_a_second_setup_deploys_nothing(fly: Fly) -> None:
    assert "nothing changed" in fly.invoke("prefect.setup").stderr
    assert fly.writes() == []
    assert fly.invoke("prefect.status").returncode == 0


def test_the_machine_is_an_ordinary_user_s(fly: Fly, docker: Docker) -> None:
    shown = docker("top", CONTAINER, "-eo", "pid,uid,args")
    owners = {line.split()[1] for line in shown.splitlines()[1:]}
    assert owners == {"1001"}, shown
    # A process has the secrets of its own stack, and no other's.
    environ = docker("exec", "-u", "1001", CONTAINER, "sh", "-c", "cat /proc/1/environ | tr '\\0' '\\n'")
    assert not [value for value in fly.secrets() if value in environ]


def test_the_doors_are_those_of_every_target(fly: Fly) -> None:
    made = fly.invoke("gateway.create-token", "--project=tests", "--service=fly").stdout.strip()
    path = f"{fly.url}/prefect/api/admin/version"
    assert httpx.get(path).status_code == 401
    assert httpx.get(path, headers={"Authorization": f"Bearer {made}"}).json() == "3.8.8"
    link = fly.invoke("gateway.login-url").stdout.strip()
    with httpx.Client(follow_redirects=True) as browser:
        assert "/prefect/" in str(browser.get(link).url)
        assert browser.get(path).status_code == 200
    jti = fly.invoke("gateway.list-tokens").stdout
    assert "fly" in jti
    # The health check's way in says whether Prefect is ready, and nothing else.
    assert httpx.get(f"{fly.url}/ready").status_code == 200
    assert httpx.post(f"{fly.url}/ready").status_code in (401, 404, 405)


def test_what_a_killed_machine_had_acknowledged_is_there(fly: Fly, docker: Docker) -> None:
    token = fly.invoke("gateway.create-token", "--project=tests", "--service=kill").stdout.strip()
    headers, api = {"Authorization": f"Bearer {token}"}, f"{fly.url}/prefect/api"
    acknowledged: list[str] = []
    with httpx.Client(headers=headers, timeout=90) as client:
        flow = client.post(f"{api}/flows/", json={"name": "killed"}).json()["id"]
        for _ in range(3):
            for _ in range(30):
                made = client.post(f"{api}/flow_runs/", json={"flow_id": flow})
                acknowledged += [made.json()["id"]] if made.status_code == 201 else []
            docker("kill", "-s", "KILL", CONTAINER)
            docker("start", CONTAINER)
            _until_ready(fly)
        found: set[str] = set()
        for start in range(0, len(acknowledged), 100):
            chosen = {"flow_runs": {"id": {"any_": acknowledged[start : start + 100]}}}
            found |= {each["id"] for each in client.post(f"{api}/flow_runs/filter", json=chosen).json()}
    assert len(acknowledged) == 90
    assert found == set(acknowledged)
    check = "import sqlite3; print(sqlite3.connect('/data/prefect/prefect.db').execute('PRAGMA integrity_check').fetchone()[0])"
    assert docker("exec", "-u", "1001", CONTAINER, "python", "-c", check).strip() == "ok"


def test_a_backup_leaves_the_machine_and_comes_back(fly: Fly, tmp_path: Path) -> None:
    token = fly.invoke("gateway.create-token", "--project=tests", "--service=backup").stdout.strip()
    api, headers = f"{fly.url}/prefect/api", {"Authorization": f"Bearer {token}"}
    with httpx.Client(headers=headers, timeout=90) as client:
        client.post(f"{api}/flows/", json={"name": "before-the-backup"}).raise_for_status()
        file = fly.invoke("prefect.backup", "--to", str(tmp_path)).stdout.strip()
        assert Path(file).stat().st_mode & 0o777 == 0o600
        client.post(f"{api}/flows/", json={"name": "after-the-backup"}).raise_for_status()
        (tmp_path / "wrong.db").write_bytes(b"no database at all")
        said = fly.invoke("prefect.restore", "--file", str(tmp_path / "wrong.db"), "--yes", code=3).stderr
        assert "is not a SQLite database" in said
        assert "its task run is recorded" in fly.invoke("prefect.restore", "--file", file, "--yes").stdout
        found = {each["name"] for each in client.post(f"{api}/flows/filter", json={}).json()}
        assert "before-the-backup" in found
        assert "after-the-backup" not in found


def _until_ready(fly: Fly) -> None:
    """A client that comes too early is held, or has no connection; it is never told something else."""
    for _ in range(600):
        try:
            if httpx.get(f"{fly.url}/ready", timeout=60).status_code == 200:
                return
        except httpx.TransportError:
            pass
    raise AssertionError("the machine does not come back")


def test_a_changed_secret_alone_is_imported(fly: Fly) -> None:
    fly.calls()
    fly.invoke("gateway.rotate-keys")
    imported = [words for words in fly.calls() if words[:2] == ["secrets", "import"]]
    assert len(imported) == 1
    digests = {name: each["status"] for name, each in fly.state()["apps"][APP]["secrets"].items()}
    assert set(digests.values()) == {"Deployed"}


def test_a_deploy_that_fails_leaves_what_ran_before(fly: Fly) -> None:
    before = fly.state()["apps"][APP]["machines"][0]["image_ref"]["tag"]
    fly.settings["prefect"] |= {"retention_days": 30}
    fly.write()
    fly.fault("deploy machine")
    failed = fly.invoke("prefect.setup", code=6)
    assert "the deploy failed, the release before it runs" in failed.stderr
    assert "waiting for health checks" in failed.stderr
    assert fly.state()["apps"][APP]["machines"][0]["image_ref"]["tag"] == before
    assert httpx.get(f"{fly.url}/ready").status_code == 200
    fly.invoke("prefect.setup")
    assert fly.state()["apps"][APP]["machines"][0]["image_ref"]["tag"] != before


def test_back_to_the_release_before(fly: Fly) -> None:
    now = fly.state()["apps"][APP]["machines"][0]["image_ref"]["tag"]
    assert "v1" in fly.invoke("prefect.releases").stdout
    fly.invoke("prefect.rollback")
    assert fly.state()["apps"][APP]["machines"][0]["image_ref"]["tag"] != now
    fly.invoke("prefect.setup")
    assert fly.state()["apps"][APP]["machines"][0]["image_ref"]["tag"] == now


def test_a_network_that_goes_away_is_said_and_the_same_command_goes_on(fly: Fly) -> None:
    fly.settings["prefect"] |= {"retention_days": 31}
    fly.write()
    fly.fault("deploy .", 'Post "https://api.machines.dev": dial tcp: lookup api.machines.dev: no such host')
    failed = fly.invoke("prefect.setup", code=1)
    assert "Fly cannot be reached" in failed.stderr
    assert "nothing changed" not in fly.invoke("prefect.setup").stderr


def test_a_sleeping_machine_is_woken_by_what_needs_it(fly: Fly) -> None:
    fly.invoke("prefect.stop")
    assert fly.state()["apps"][APP]["machines"][0]["state"] == "stopped"
    fly.invoke("prefect.status")
    assert fly.state()["apps"][APP]["machines"][0]["state"] == "started"


def test_a_volume_cannot_move(fly: Fly) -> None:
    fly.settings["fly"] |= {"region": "fra"}
    fly.write()
    said = fly.invoke("prefect.setup", code=3).stderr
    fly.settings["fly"] |= {"region": "iad"}
    fly.write()
    assert "with the databases is in iad, and a volume cannot move" in said


def test_removed_with_its_data_nothing_is_left(fly: Fly, docker: Docker) -> None:
    fly.invoke("prefect.remove", code=2)
    fly.invoke("prefect.remove", "--yes", "--data")
    assert fly.state()["apps"] == {}
    assert docker("ps", "-aq", "--filter", f"label={_fly_standin.LABEL}") == ""
