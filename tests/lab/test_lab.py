"""The lab is a machine: a door with one key, an engine, power cuts; and when it goes it leaves nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from prefect_platform import lab
from prefect_platform.errors import LockedError
from prefect_platform.lab import LabHost
from prefect_platform.lab.layout import CACHE_VARIABLE, of

from .conftest import Docker, call, docker_of, say

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
    port = lab.status(root)["port"]
    lines = call("ss", "-Hltn", f"sport = :{port}").splitlines()
    listening = {line.split()[3].rpartition(":")[0] for line in lines}
    assert listening == {"127.0.0.1"}


def test_a_second_up_changes_nothing(host: LabHost, root: Path, docker: Docker) -> None:
    def seen() -> tuple[object, ...]:
        found = lab.status(root)
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
    assert lab.up(root, said.append) == host
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
        lab.up(tmp_path, say)
    lab.down(tmp_path, say)  # and the refused one can be cleaned up, the other one unharmed
    assert call("ssh", "-F", host.ssh_config, host.host, "echo", "still here").strip() == "still here"


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, docker: Docker) -> Iterator[tuple[Path, Docker]]:
    """A second lab beside the first, with one image in it, whose end a test may bring about."""
    root = tmp_path / "a clone"
    root.mkdir()
    with monkeypatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
        made = lab.up(root, say, standins=False)
        ours = docker_of(made)
        docker("save", "-o", tmp_path / "image.tar", "redis:8.10.2")
        ours("load", "-i", tmp_path / "image.tar")
        try:
            yield root, ours
        finally:
            lab.down(root, say, everything=True)


def _occupy(docker: Docker) -> None:
    docker("network", "create", "left-over")
    for number in ("1", "2"):
        docker(
            "run",
            "-d",
            "--name",
            f"left-over-{number}",
            "--network",
            "left-over",
            "--restart",
            "always",
            "-v",
            "left-over:/data",
            "-p",
            "127.0.0.1::6379",
            "redis:8.10.2",
        )


def _traces(root: Path) -> dict[str, list[str]]:
    """All that a lab with this root has on the machine."""
    place = of(root)
    pool = (
        json.loads((place.state / "network.json").read_text())["pool"]
        if (place.state / "network.json").exists()
        else None
    )
    marks = [place.name, str(place.run), str(place.state), *([pool.removesuffix("0.0/16")] if pool else [])]

    def having(lines: str) -> list[str]:
        return [line for line in lines.splitlines() if any(mark in line for mark in marks)]

    return {
        "processes": having(
            "\n".join(
                " ".join(each.info["cmdline"] or ())
                for each in psutil.process_iter(["cmdline"])
                if each.pid != os.getpid()
            )
        ),
        "network": having(
            call("ip", "-o", "addr") + call("iptables", "-S") + call("iptables", "-t", "nat", "-S")
        ),
        "mounts": having(Path("/proc/self/mounts").read_text()),
        "cgroups": [str(each) for each in Path("/sys/fs/cgroup").glob(f"**/{place.name}")],
        "run": [str(each) for each in Path("/run").iterdir() if each == place.run],
        "accounts": [line for line in Path("/etc/passwd").read_text().splitlines() if "deployer" in line],
    }


def test_down_leaves_nothing_but_images(small: tuple[Path, Docker]) -> None:
    root, docker = small
    _occupy(docker)
    before = _traces(root)
    assert before["processes"]
    assert before["network"]
    lab.down(root, say)
    assert {what: found for what, found in _traces(root).items() if found} == {}
    assert not lab.status(root)["up"]
    said: list[str] = []
    again = docker_of(lab.up(root, said.append, standins=False))
    assert [again("ps", "-aq"), again("volume", "ls", "-q")] == ["", ""]
    assert "left-over" not in again("network", "ls")
    assert "redis" in again("images")
    lab.down(root, say, everything=True)
    assert {what: found for what, found in _traces(root).items() if found} == {}
    assert not of(root).state.exists()
    assert not of(root).data.exists()
    lab.down(root, say)  # of nothing is fine


def test_after_a_power_cut_only_restart_policies_count(small: tuple[Path, Docker]) -> None:
    root, docker = small
    _occupy(docker)
    docker("run", "-d", "--name", "once", "redis:8.10.2")
    lab.reboot(root, say)
    until = time.monotonic() + 30
    while docker("ps", "--format", "{{.Names}}").split() != ["left-over-2", "left-over-1"]:
        assert time.monotonic() < until, docker("ps", "-a")
        time.sleep(0.2)


def test_a_killed_machine_is_cleaned_up_as_well(small: tuple[Path, Docker]) -> None:
    root, docker = small
    _occupy(docker)
    pid = lab.status(root)["pid"]
    psutil.Process(pid).kill()
    psutil.wait_procs([psutil.Process(pid)], timeout=10) if psutil.pid_exists(pid) else None
    assert not lab.status(root)["up"]
    lab.down(root, say)
    assert {what: found for what, found in _traces(root).items() if found} == {}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_up_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    program = f"from pathlib import Path; from prefect_platform import lab; lab.up(Path({str(tmp_path)!r}), print, standins=False)"
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 30
        while not of(tmp_path).record.exists():
            assert time.monotonic() < until
            time.sleep(0.005)
        process.send_signal(how)
        process.communicate(timeout=90)
    try:
        assert process.returncode != 0
        if how is signal.SIGINT:
            assert lab.status(tmp_path)["pid"] is None
        made = lab.up(tmp_path, say, standins=False)
        assert re.match(r"\d+\.", docker_of(made)("version", "--format", "{{.Server.Version}}"))
    finally:
        lab.down(tmp_path, say, everything=True)
    assert {what: found for what, found in _traces(tmp_path).items() if found} == {}
