"""The local platform as its user meets it: set up, used, changed, broken, removed. Order matters only where a name says so."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta

import httpx
import psutil
import pytest

from prefect_platform.secretstore.file_store import FileStore

from .conftest import Clone, free_ports
from .refusal import refused

VERSION = "/prefect/api/admin/version"
pytestmark = pytest.mark.timeout(600)


def _until_healthy(platform: Clone, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not (seen := platform.status())["healthy"]:
        assert time.monotonic() < end, seen
        time.sleep(1)


def test_setup_proves_a_canary_run(first_setup: subprocess.CompletedProcess[str]) -> None:
    lines = first_setup.stdout.splitlines()
    assert any(
        line.startswith("ok")
        and " canary " in line
        and "Completed" in line
        and "task run is recorded" in line
        for line in lines
    )
    for service in ("traefik-gateway", "gateway-verifier", "prefect-server", "prefect-worker"):
        assert any(line.startswith("ok") and service in line for line in lines)
    assert "FAIL" not in first_setup.stdout
    assert "./invoke gateway.login-url" in first_setup.stderr


def test_a_second_setup_changes_nothing(platform: Clone) -> None:
    before = platform.pids()
    assert len(before) == 5
    again = platform.invoke("prefect.setup")
    assert "nothing changed" in again.stderr
    assert platform.pids() == before


def test_a_dry_run_touches_no_file(platform: Clone) -> None:
    def times() -> dict[str, float]:
        skipped = ("logs", "data", "__pycache__")
        files = (
            path for path in platform.root.rglob("*") if not set(skipped) & set(path.parts) and path.is_file()
        )
        return {str(path): path.stat().st_mtime_ns for path in files}

    before = times()
    shown = platform.invoke("prefect.setup", "--dry-run")
    assert "nothing to do" in shown.stdout
    platform.settings["prefect"]["retention_days"] = 33
    try:
        platform.write()
        before[str(platform.root / "invoke.yaml")] = (platform.root / "invoke.yaml").stat().st_mtime_ns
        planned = platform.invoke("prefect.plan").stdout
        assert "restart   prefect-server" in planned
        assert "RETENTION_PERIOD=P33D" in planned
        assert "worker" not in planned.splitlines()[0]
        assert platform.invoke("platform.setup", "--dry-run").stdout == planned
        assert platform.invoke("platform.plan").stdout == planned
        assert times() == before
    finally:
        del platform.settings["prefect"]["retention_days"]
        platform.write()


def test_scopes_and_revocation(platform: Clone, token: str) -> None:
    with httpx.Client(base_url=platform.url, headers={"Authorization": f"Bearer {token}"}) as client:
        assert client.get("/prefect/api/admin/version").status_code == 200
        assert client.get("/metrics").status_code == 403
    made = json.loads(
        platform.invoke(
            "gateway.create-token", "--project", "p", "--service", "s", "--scope", "metrics", "--json"
        ).stdout
    )
    with httpx.Client(base_url=platform.url, headers={"Authorization": f"Bearer {made['token']}"}) as client:
        assert "traefik_entrypoint" in client.get("/metrics").text
        assert "python_info" in client.get("/prefect/api/metrics").text
        assert client.get("/prefect/api/admin/version").status_code == 403
        platform.invoke("gateway.revoke-token", made["jti"])
        end = time.monotonic() + 5
        while client.get("/metrics").status_code != 401:
            assert time.monotonic() < end, "revoked, and still let in after 5 s"
            time.sleep(0.1)
    assert made["token"] not in platform.invoke("gateway.list-tokens", "--all").stdout


def test_a_new_token_says_when_it_ends_and_status_warns_before(platform: Clone) -> None:
    made = platform.invoke("gateway.create-token", "--project", "p", "--service", "soon", "--expires", "13d")
    assert made.stdout.count("\n") == 1, "the token alone"
    ends = (datetime.now(UTC) + timedelta(days=13)).strftime("%Y-%m-%d")
    assert "p/soon: token " in made.stderr
    assert f"valid until {ends}" in made.stderr
    with httpx.Client(headers={"Authorization": f"Bearer {made.stdout.strip()}"}) as client:
        assert client.get(f"{platform.url}{VERSION}").status_code == 200
    platform.invoke("gateway.restart")  # it writes what was used
    _until_healthy(platform)
    shown = platform.invoke("prefect.status").stdout
    assert re.search(
        r"^warn  tokens +p/soon \([0-9a-f]{12}\), last used today, ends in 12 days$", shown, re.M
    )
    assert "next: create another with ./invoke gateway.create-token" in shown
    jti = re.search(r"p/soon \(([0-9a-f]{12})\)", shown)
    assert jti
    platform.invoke("gateway.revoke-token", jti[1])
    assert re.search(r"^ok    tokens ", platform.invoke("prefect.status").stdout, re.M)


@pytest.mark.parametrize(
    "service", ["prefect-server", "gateway-verifier", "traefik-gateway", "prefect-worker"]
)
def test_a_killed_process_comes_back(platform: Clone, service: str) -> None:
    _until_healthy(platform)
    old = platform.pids()[service]
    os.kill(old, signal.SIGKILL)
    end = time.monotonic() + 30
    while platform.pids().get(service, old) == old:
        assert time.monotonic() < end
        time.sleep(0.3)
    _until_healthy(platform)


def test_setup_repairs_a_dead_supervisor(platform: Clone) -> None:
    server = platform.pids()["prefect-server"]
    supervisord = psutil.Process(server).ppid()
    os.kill(supervisord, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(supervisord)] if psutil.pid_exists(supervisord) else [], timeout=5)
    assert platform.invoke("prefect.status", code=5).stdout.startswith("FAIL")
    platform.invoke("prefect.setup")
    assert platform.pids()["prefect-server"] != server
    assert not psutil.pid_exists(server)


def test_a_change_restarts_only_what_it_touches(platform: Clone) -> None:
    before = platform.pids()
    platform.settings["prefect"]["retention_days"] = 44
    platform.settings["gateway"]["routes"] = [
        {"name": "shown", "path": "/shown", "url": "http://127.0.0.1:9"}
    ]
    platform.write()
    platform.invoke("prefect.setup")
    after = platform.pids()
    assert {name for name in before if before[name] != after[name]} == {"prefect-server"}
    assert httpx.get(f"{platform.url}/shown").status_code == 401


def test_keys_rotate_with_overlap(platform: Clone, token: str) -> None:
    before = platform.pids()
    platform.invoke("gateway.rotate-keys")
    after = platform.pids()
    assert {name for name in before if before[name] != after[name]} == {"gateway-verifier"}
    newer = platform.invoke("gateway.create-token", "--project", "p", "--service", "s").stdout.strip()
    assert newer.split(".")[0] != token.split(".")[0], "another key signs"
    for each in (token, newer):
        answer = httpx.get(f"{platform.url}{VERSION}", headers={"Authorization": f"Bearer {each}"})
        assert answer.status_code == 200


def test_a_check_token_that_the_gateway_no_longer_knows_is_replaced(platform: Clone) -> None:
    """As after a lost volume, or two rotations: the checks say what is wrong with the platform, not with our own token."""
    store = FileStore(platform.root / ".state" / "local" / "secrets")
    owner = store.folder.stat().st_uid
    header, _, rest = store.read("operator")["CHECK_TOKEN"].value.partition(".")
    fields = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    other = base64.urlsafe_b64encode(json.dumps({**fields, "kid": "of-before"}).encode()).decode().rstrip("=")
    store.merge("operator", {"CHECK_TOKEN": f"{other}.{rest}"})
    for file in store.folder.iterdir():
        os.chown(file, owner, -1)
    platform.invoke("prefect.status")
    assert store.read("operator")["CHECK_TOKEN"].value.partition(".")[0] != other


def test_logs_are_followed(platform: Clone) -> None:
    with platform.start("prefect.logs", "--service", "server", "--lines", "1", "--follow") as process:
        assert process.stdout
        process.stdout.readline()
        platform.invoke("prefect.pools")
        seen: list[str] = []
        while not any("work_pools" in line for line in seen):
            seen.append(process.stdout.readline())
            assert seen[-1], "it ended by itself"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr
        assert process.stderr.read() == "", "there is nothing to resume"


def test_following_ends_when_nobody_reads(platform: Clone) -> None:
    with platform.start("prefect.logs", "--service", "server", "--lines", "1", "--follow") as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.close()
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            platform.invoke("prefect.pools")
        process.kill()
        assert process.wait() == 0, "it follows for nobody"


def _valid(platform: Clone) -> int:
    return len(json.loads(platform.invoke("gateway.list-tokens", "--json").stdout))


NEW = ("gateway.create-token", "--project", "p", "--service", "s")


@pytest.mark.parametrize("words", [NEW, (*NEW, "--json"), ("gateway.login-url",)])
@pytest.mark.parametrize("onto", [">&-", "| true", ">/dev/full"])
def test_what_is_printed_once_and_reaches_nobody_is_an_error(
    platform: Clone, words: tuple[str, ...], onto: str
) -> None:
    before = _valid(platform)
    line = f"{{ {platform.root}/invoke {' '.join(words)}; echo $? >&2; }} {onto}"
    said = platform.invoke("-c", line, program="/bin/sh").stderr
    assert "nobody" in said
    assert "\nhint: run it again where its output is read\n1\n" in said
    assert _valid(platform) == before


@pytest.mark.parametrize(
    ("words", "says", "hint"),
    [
        ((*NEW, "--expires", "90"), "gateway.create-token: --expires '90'", "--help gateway.create-token"),
        (
            ("gateway.create-token", "--service=s", "--project", "my app"),
            "gateway.create-token: --project 'my app'",
            "--help gateway.create",
        ),
        (
            ("gateway.create-token", "--service=s", "--project=-p"),
            "gateway.create-token: --project '-p'",
            "--help gateway.create-token",
        ),
        (("gateway.revoke-token", "abc"), "gateway.revoke-token: ID: must be", "gateway.list-tokens"),
        (("gateway.revoke-token", "00000000"), "00000000: no such token", "gateway.list-tokens"),
        ((*NEW, "--scope", "prefect nope"), "--scope 'nope': no such scope", "scopes: prefect"),
    ],
)
def test_a_wrong_argument_is_named_and_makes_no_token(
    platform: Clone, words: tuple[str, ...], says: str, hint: str
) -> None:
    before = _valid(platform)
    problem, _, told = refused(platform, *words, code=2).partition("\nhint: ")
    assert says in problem
    assert hint in told
    assert _valid(platform) == before


def test_a_copied_stack_is_a_namespace(platform: Clone) -> None:
    shutil.copytree(platform.root / "stacks" / "prefect", platform.root / "stacks" / "orion")
    try:
        assert "orion.setup" in platform.invoke("--list").stdout
        (port,) = free_ports(1)
        assert (
            "start     orion-server"
            in platform.invoke("orion.plan", INVOKE_PLATFORM_ORION_PORT=str(port)).stdout
        )
    finally:
        shutil.rmtree(platform.root / "stacks" / "orion")


def test_secrets_show_nowhere(platform: Clone, token: str) -> None:
    state = platform.root / ".state" / "local"
    values = [
        value
        for file in (state / "secrets").glob("*.json")
        for value in json.loads(file.read_text()).values()
    ]
    values += [key["d"] for value in values if value.startswith("[") for key in json.loads(value)]
    assert len(values) >= 4
    for file in (path for path in state.rglob("*") if path.is_file()):
        assert file.stat().st_mode & 0o077 == 0 or "data" in file.parts, file
        if "secrets" not in file.parts:
            content = file.read_bytes()
            assert not [value for value in (*values, token) if value.encode() in content], file
    for process in psutil.process_iter(["cmdline"]):  # None for a process that is gone or a zombie
        line = " ".join(process.info["cmdline"] or []) if process.pid != os.getpid() else ""
        assert not [value for value in values if value in line]


def test_remove_leaves_no_process(platform: Clone) -> None:
    pids = list(platform.pids().values())
    assert "add --yes" in platform.invoke("prefect.remove", code=2).stderr
    platform.invoke("prefect.remove", "--yes")
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert (platform.root / ".state" / "local" / "data" / "prefect" / "prefect.db").exists()
    platform.invoke("prefect.setup")
    assert platform.status()["healthy"]
