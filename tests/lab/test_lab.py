"""The lab is a machine: a door with one key and an engine behind it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import prefect_platform_lab
from prefect_platform.errors import LockedError
from prefect_platform_lab import LabHost
from prefect_platform_lab.layout import CACHE_VARIABLE

from .conftest import ROOT, Docker, call, say

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
Ssh = Callable[..., str]


def test_both_accounts_reach_the_engine_through_ssh(host: LabHost, ssh: Ssh, docker: Docker) -> None:
    engine = docker("info", "--format", "{{.ID}}")
    for login, uid in ((host.host, "0"), (host.deployer, "2001")):
        assert ssh("id", "-u", login=login).strip() == uid
        assert ssh("docker", "info", "--format", "{{.ID}}", login=login) == engine
        assert "v2." in ssh("docker", "compose", "version", login=login).replace("version 2", "version v2")


def test_the_deployer_has_no_more_than_the_engine(host: LabHost, ssh: Ssh) -> None:
    assert "docker" in ssh("id", "-Gn", login=host.deployer)
    ssh("sudo", "-n", "true", login=host.deployer, code=1)
    ssh("ls", str(host.data), login=host.deployer, code=2)
    ssh("touch", "/srv/x", login=host.deployer, code=1)


def test_another_key_is_refused(host: LabHost, tmp_path: Path) -> None:
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other")
    config = tmp_path / "config"
    config.write_text(
        host.ssh_config.read_text().replace(str(host.data / "client_key"), str(tmp_path / "other"))
    )
    assert "Permission denied (publickey)" in call("ssh", "-F", config, host.host, "true", code=255)


def test_another_host_key_is_not_trusted(host: LabHost, tmp_path: Path) -> None:
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other")
    (tmp_path / "known_hosts").write_text(f"platform-lab {(tmp_path / 'other.pub').read_text()}")
    config = tmp_path / "config"
    config.write_text(
        host.ssh_config.read_text().replace(str(host.data / "known_hosts"), str(tmp_path / "known_hosts"))
    )
    assert "Host key verification failed" in call("ssh", "-F", config, host.host, "true", code=255)


def test_only_this_machine_can_knock(host: LabHost, root: Path) -> None:
    port = prefect_platform_lab.status(root)["port"]
    lines = call("ss", "-Hltn", f"sport = :{port}").splitlines()
    listening = {line.split()[3].rpartition(":")[0] for line in lines}
    assert listening == {"127.0.0.1"}


def test_a_second_up_changes_nothing(host: LabHost, root: Path, docker: Docker) -> None:
    def seen() -> tuple[object, ...]:
        found = prefect_platform_lab.status(root)
        files = [host.ssh_config, host.data / "known_hosts", host.data / "client_key"]
        pids = sorted(child.pid for child in psutil.Process(found["pid"]).children(recursive=True))
        return (
            found,
            pids[:3],
            [file.stat().st_mtime_ns for file in files],
            docker("images", "--format", "{{.ID}} {{.Repository}}"),
        )

    said: list[str] = []
    before = seen()
    assert prefect_platform_lab.up(root, said.append) == host
    assert seen() == before
    assert said == []


def test_what_is_written_through_ssh_is_the_labs_alone(host: LabHost, ssh: Ssh) -> None:
    ssh(
        "mkdir -p /srv/platform && echo here > /srv/platform/file && echo x > /etc/platform-lab-test && touch ~/mine"
    )
    assert ssh("cat", "/srv/platform/file").strip() == "here"
    assert not Path("/srv/platform").exists()
    assert not Path("/etc/platform-lab-test").exists()
    assert not (Path.home() / "mine").exists()
    assert "deployer" not in Path("/etc/passwd").read_text()


def test_containers_see_what_was_copied_to_the_machine(ssh: Ssh, docker: Docker, name: str) -> None:
    ssh("mkdir -p /srv/mounted && echo here > /srv/mounted/file")
    out = docker(
        "run",
        "--rm",
        "--name",
        name,
        "-v",
        "/srv/mounted:/x:ro",
        "--entrypoint",
        "cat",
        "redis:8.10.2",
        "/x/file",
    )
    assert out.strip() == "here"


def test_containers_reach_each_other_and_this_machine_reaches_them(docker: Docker, name: str) -> None:
    docker("network", "create", name)
    docker("run", "-d", "--name", name, "--network", name, "-p", "127.0.0.1::6379", "redis:8.10.2")
    port = int(docker("port", name, "6379").rpartition(":")[2])
    until = time.monotonic() + 20
    while docker("exec", name, "redis-cli", "ping", code=None).strip() != "PONG":
        assert time.monotonic() < until
    with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
        link.sendall(b"PING\r\n")
        assert link.recv(16).startswith(b"+PONG")
    other = docker(
        "run",
        "--rm",
        "--name",
        f"{name}-b",
        "--network",
        name,
        "redis:8.10.2",
        "redis-cli",
        "-h",
        name,
        "ping",
    )
    assert other.strip() == "PONG"


def test_two_labs_do_not_share_a_cache(host: LabHost, tmp_path: Path) -> None:
    with pytest.raises(LockedError, match="runs on this cache"):
        prefect_platform_lab.up(tmp_path, say)
    prefect_platform_lab.down(tmp_path, say)  # and the refused one can be cleaned up, the other one unharmed
    assert call("ssh", "-F", host.ssh_config, host.host, "echo", "still here").strip() == "still here"


def test_without_root_it_says_what_to_do() -> None:
    program = "import os; from prefect_platform_lab import needs; os.setuid(65534); needs.be_root()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "PreflightError: lab: needs root" in done.stderr
    assert "hint: sudo ./invoke lab.up" in done.stderr


def test_the_status_task_answers_for_scripts(host: LabHost) -> None:
    """Of this clone's own lab, whether it runs or not."""
    words = [str(ROOT / "invoke"), "lab.status", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, CACHE_VARIABLE: ""})
    found = json.loads(done.stdout)
    assert {"up", "why", "ssh_config", "host", "deployer", "docker_host", "images", "containers"} <= set(
        found
    )
    assert done.returncode == (0 if found["up"] else 5)
