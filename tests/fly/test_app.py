"""Target fly: the image is built and run by a real Docker engine; flyctl is the stand-in beside the code that calls it.

The tests build on each other in the order of the file: one app serves them all.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from prefect_platform.targets.fly import preview
from prefect_platform_lab.standins import flyctl
from tests.lab.conftest import Docker
from tests.local.conftest import free_ports

from .app import Fly
from .conftest import ROOT, Launch

pytestmark = pytest.mark.timeout(600)
APP = "tests-gateway"


@pytest.fixture(scope="module")
def fly(launch: Launch) -> Fly:
    return launch(APP)


def test_without_flyctl_or_a_login_nothing_is_begun(fly: Fly) -> None:
    bare = fly.environ["PATH"].partition(":")[2]
    if not shutil.which("flyctl", path=bare):
        said = fly.invoke("prefect.setup", code=3, environ={"PATH": bare}).stderr
        assert "flyctl is not installed" in said
    (fly.folder / "fly.json").write_text(json.dumps({**flyctl.EMPTY, "login": False}))
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
        ({"app": APP, "memory": "4gb"}, "exceeds what 1 shared CPUs allow"),
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
    assert not (fly.folder / "fly.json").exists() or fly.known()["apps"] == {}


def _steps(shown: str) -> set[str]:
    """`action subject` of every step of a plan's or a setup's --json."""
    found = json.loads(shown)
    steps = {f"{step['action']} {step['subject']}" for step in found["steps"]}
    return steps | {each.partition(":")[0] for each in found["objects"]}


def test_from_nothing_to_a_machine_that_runs_a_flow_as_planned(fly: Fly) -> None:
    planned = _steps(fly.invoke("prefect.plan", "--json").stdout)
    assert fly.writes() == []
    done = fly.invoke("prefect.setup", "--json")
    report = json.loads(done.stdout)
    canary = next(check for check in report["checks"] if check["name"] == "canary")
    assert "its task run is recorded" in canary["detail"]
    assert report["healthy"]
    assert _steps(done.stdout) == planned
    calls = fly.calls()
    kinds = [" ".join(words[:2]) for words in calls]
    for step, call in (("create app", "apps create"), ("create volume", "volumes create")):
        assert step in planned
        assert kinds.count(call) == 1
    imported = {step.removeprefix("import secret ") for step in planned if step.startswith("import ")}
    assert kinds.count("secrets import") == 1
    assert set(fly.known()["apps"][APP]["secrets"]) == imported
    values = fly.secrets()
    assert len(values) >= 3
    assert not [value for value in values if value in json.dumps(calls) + done.stdout + done.stderr]


def test_a_second_setup_deploys_nothing(fly: Fly) -> None:
    assert "nothing changed" in fly.invoke("prefect.setup").stderr
    assert fly.writes() == []
    assert fly.invoke("prefect.status").returncode == 0


def test_the_machine_is_an_ordinary_user_s(fly: Fly, docker: Docker) -> None:
    shown = docker("top", fly.container, "-eo", "pid,uid,args")
    # Fly's own server for the socket /.fly/api is root's.
    ours = [line for line in shown.splitlines()[1:] if "socketserver" not in line]
    owners = {line.split()[1] for line in ours}
    assert owners == {"1001"}, shown
    # A process has the secrets of its own stack, and no other's.
    environ = docker("exec", "-u", "1001", fly.container, "sh", "-c", "cat /proc/1/environ | tr '\\0' '\\n'")
    assert not [value for value in fly.secrets() if value in environ]


def test_a_command_runs_as_the_process_that_it_is_for(fly: Fly) -> None:
    read = "import os; print(os.getuid(), os.environ['PREFECT_SERVER_DATABASE_NAME'], len(os.environ['PREFECT_SERVER_ENCRYPTION_KEY']), '$HOME; #')"
    shown = fly.invoke("prefect.exec", "server", "--", "python", "-c", read).stdout
    assert re.fullmatch(r"1001 /data/prefect/prefect\.db \d\d \$HOME; #", shown.strip()), shown
    shown = fly.invoke("prefect.exec", "worker", "--", "prefect", "config", "view").stdout
    assert "PREFECT_API_URL='http://127.0.0.1:4200/prefect/api'" in shown
    failed = fly.invoke("prefect.exec", "server", "--", "false", code=None)
    assert failed.returncode == 1


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


def test_a_preview_is_the_machine_without_fly(fly: Fly, docker: Docker) -> None:
    fly.calls()
    (port,) = free_ports(1)
    done = fly.invoke("fly.preview", f"--port={port}")
    assert "its task run is recorded" in done.stdout
    name = f"prefect-platform-preview-{APP}"
    shown = json.loads(docker("inspect", name))[0]
    assert shown["HostConfig"]["Memory"] == 1 << 30
    folder = fly.root / ".state" / "preview" / "fly" / "secrets"
    values = [value for file in folder.glob("[gp]*.json") for value in json.loads(file.read_text()).values()]
    assert len(values) >= 2
    assert not [value for value in values if value in json.dumps(shown) + done.stdout + done.stderr]
    assert docker("exec", "-u", "0", name, "ls", "/").count("platform-secrets") == 0, "read once, and gone"
    link = next(
        word for word in done.stderr.split() if word.startswith(f"http://127.0.0.1:{port}/auth/login")
    )
    with httpx.Client(follow_redirects=True) as browser:
        assert "/prefect/" in str(browser.get(link).url)
    fly.invoke("fly.preview", "--stop")
    for kind in ("container", "volume", "image"):
        words = ["ls", "-q", *(["-a"] if kind == "container" else []), "--filter"]
        wanted = f"name={name}" if kind != "image" else f"label={preview.LABEL}"
        assert docker(kind, *words, wanted) == ""
    assert not folder.exists()
    assert fly.calls() == []


def test_a_changed_secret_alone_is_imported(fly: Fly) -> None:
    fly.calls()
    fly.invoke("gateway.rotate-keys")
    imported = [words for words in fly.calls() if words[:2] == ["secrets", "import"]]
    assert len(imported) == 1
    digests = {name: each["status"] for name, each in fly.known()["apps"][APP]["secrets"].items()}
    assert set(digests.values()) == {"Deployed"}


def test_a_deploy_that_fails_leaves_what_ran_before(fly: Fly) -> None:
    before = fly.machine["image_ref"]["tag"]
    fly.settings["prefect"] |= {"database_url": "postgresql://prefect@127.0.0.1:1/none"}
    fly.write()
    # Its server ends at once, again and again: waiting longer for its health shows nothing more.
    given = {"PREFECT_SERVER_DATABASE_PASSWORD": "does-not-matter", "FLY_STANDIN_PATIENCE": "60"}
    failed = fly.invoke("prefect.setup", code=6, environ=given)
    *_, told = failed.stderr.split("the deploy failed; the previous release is running: ")
    assert "Error: failed to update machine: timeout reached waiting for health checks" in told
    assert "the machine said: server.py: database 127.0.0.1:1/none: " in told
    assert "#1" not in told, "what was shown already"
    del fly.settings["prefect"]["database_url"]
    fly.settings["prefect"] |= {"retention_days": 30}
    fly.write()
    assert fly.machine["image_ref"]["tag"] == before
    assert httpx.get(f"{fly.url}/ready").status_code == 200
    fly.invoke("prefect.setup")
    assert fly.machine["image_ref"]["tag"] != before


def test_back_to_the_release_before(fly: Fly) -> None:
    now = fly.machine["image_ref"]["tag"]
    assert "v1" in fly.invoke("prefect.releases").stdout
    fly.invoke("prefect.rollback")
    assert fly.machine["image_ref"]["tag"] != now
    fly.invoke("prefect.setup")
    assert fly.machine["image_ref"]["tag"] == now


def test_a_network_that_goes_away_is_said_and_the_same_command_goes_on(fly: Fly) -> None:
    fly.settings["prefect"] |= {"retention_days": 31}
    fly.write()
    fly.fault("deploy .", 'Post "https://api.machines.dev": dial tcp: lookup api.machines.dev: no such host')
    failed = fly.invoke("prefect.setup", code=1)
    assert "Fly cannot be reached" in failed.stderr
    assert "nothing changed" not in fly.invoke("prefect.setup").stderr


def test_a_sleeping_machine_is_woken_by_what_needs_it(fly: Fly) -> None:
    fly.invoke("prefect.stop")
    assert fly.machine["state"] == "stopped"
    fly.invoke("prefect.status")
    assert fly.machine["state"] == "started"


def _answers() -> dict[str, list[str]]:
    """docs/fly.md, "When something is wrong": what one sees → the commands that are the answer."""
    table = (
        (ROOT / "docs" / "fly.md")
        .read_text()
        .partition("## When something is wrong")[2]
        .partition("\n## ")[0]
    )
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")][1:]
    return {row[0].strip(): re.findall(r"`((?:prefect|gateway)\.[^`]+)`", row[2]) for row in rows}


def test_the_troubles_of_the_page_are_answered_by_its_commands(
    fly: Fly, docker: Docker, tmp_path: Path
) -> None:
    """Each trouble is made; then its row's commands run as they stand, and say or do what the row promises."""
    answers, run = _answers(), _Asked(fly)
    backup = fly.invoke("prefect.backup", "--to", str(tmp_path)).stdout.strip()

    stopped, said = answers.pop("`Connection refused`, no answer at all")
    fly.flyctl("machine", "stop", fly.machine["id"])
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{fly.url}/ready")
    assert "ok    prefect-server" in run(stopped)
    assert "prefect-server | " in run(said) or "serving on" in run(said)

    listed, created = answers.pop("401")
    assert "checks" in run(listed)
    token = run(created.replace("…", "--project=tests --service=page")).split()[0]
    path = f"{fly.url}/prefect/api/admin/version"
    assert httpx.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 200

    (logs,) = answers.pop("502, 503 for long")
    assert "serving on" in run(f"{logs} --lines 200")

    (restored,) = answers.pop("`database … is damaged`")
    script = "import sys; file = open('/data/prefect/prefect.db', 'r+b'); file.seek(4096); file.write(b'x' * 40960)"
    fly.invoke("prefect.stop")
    volume = fly.known()["apps"][APP]["volumes"][0]["docker"]
    image = "{registry}/{repository}:{tag}".format(**fly.machine["image_ref"])
    words = [
        "run",
        "--rm",
        "-u",
        "1001",
        "-v",
        f"{volume}:/data",
        "--entrypoint",
        "python",
        image,
        "-c",
        script,
    ]
    docker(*words)
    told = fly.invoke("prefect.status", code=5).stdout
    assert "is damaged" in told + fly.invoke("prefect.logs", "--service=server", "--lines=50").stdout
    assert "its task run is recorded" in run(restored.replace("…", f"{backup} --yes"))

    connect, lines, pools = answers.pop("a worker elsewhere does not connect")
    home = tmp_path / "home"
    home.mkdir()
    assert "PREFECT_CLIENT_CUSTOM_HEADERS" in run(f"{lines} --env fly --token {token}")
    run(connect, PREFECT_HOME=str(home), HOME=str(home))
    assert fly.url in (home / "profiles.toml").read_text()
    assert "default" in run(pools)

    # What is left names settings, not commands.
    assert [commands for commands in answers.values() if commands] == []


class _Asked:
    """Runs a command as the page writes it."""

    def __init__(self, fly: Fly) -> None:
        self.fly = fly

    def __call__(self, line: str, **environ: str) -> str:
        name, *words = shlex.split(line)
        at = words.index("--env")
        assert words[at + 1] == "fly"
        done = self.fly.invoke(name, *words[:at], *words[at + 2 :], environ=environ)
        return done.stdout + done.stderr


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
    assert fly.known()["apps"] == {}
    assert docker("ps", "-aq", "--filter", f"label={flyctl.LABEL}={APP}") == ""
