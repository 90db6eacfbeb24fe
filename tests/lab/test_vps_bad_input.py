"""What a person gets wrong, or finds broken: one clear paragraph with the next command, another exit code than 0, and nothing changed."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prefect_platform_lab import LabHost
from tests.local.conftest import free_ports

from .conftest import Docker, call
from .vps import Vps, containers

pytestmark = pytest.mark.timeout(300)
Ssh = Callable[..., str]


@pytest.fixture
def untouched(standing: Vps, docker: Docker, ssh: Ssh) -> Iterator[Vps]:
    """The platform is the same before and after: files on the host, containers."""
    listing = "find /opt/platform -type f -not -name lock -not -name lock.holder -exec sha256sum {} + | sort"
    before = ssh(listing), {name: each["Id"] for name, each in containers(docker).items()}
    kept = dict(standing.settings)
    yield standing
    standing.settings.clear()
    standing.settings.update(kept)
    standing.write()
    assert (ssh(listing), {name: each["Id"] for name, each in containers(docker).items()}) == before


def refused(vps: Vps, *words: str, **environ: str) -> str:
    """What the command says; it must be a paragraph with a hint, and no traceback."""
    vps.write()
    done = vps.invoke(*words, code=None, environ=environ)
    assert done.returncode in (2, 3), done.stderr
    assert "Traceback" not in done.stderr
    assert "\nhint: " in done.stderr
    assert len(done.stderr.splitlines()) <= 6, done.stderr
    return done.stderr


def _config(host: LabHost, folder: Path, changes: dict[str, str]) -> str:
    """The lab's ssh configuration with other values."""
    lines = []
    for line in host.ssh_config.read_text().splitlines():
        key = line.split()[0] if line.split() else ""
        lines.append(f"    {key} {changes[key]}" if key in changes else line)
    file = folder / "ssh_config"
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def test_a_host_that_does_not_answer(untouched: Vps, host: LabHost, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    untouched.settings["ssh_config"] = _config(host, tmp_path, {"Port": str(port)})
    said = refused(untouched, "prefect.setup")
    assert "Connection refused" in said
    assert "check that the host is up" in said
    untouched.settings["host"] = "no-such-host.invalid"
    assert "correct platform.host" in refused(untouched, "prefect.status")


def test_a_key_that_the_host_does_not_know(untouched: Vps, host: LabHost, tmp_path: Path) -> None:
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key")
    untouched.settings["ssh_config"] = _config(host, tmp_path, {"IdentityFile": str(tmp_path / "key")})
    assert "the host refuses the key" in refused(untouched, "prefect.setup")


def test_a_host_whose_key_has_changed(untouched: Vps, host: LabHost, tmp_path: Path) -> None:
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key")
    text = host.ssh_config.read_text()
    known = Path(next(line.split('"')[1] for line in text.splitlines() if "UserKnownHostsFile" in line))
    name = known.read_text().split()[0]
    other = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    (tmp_path / "known_hosts").write_text(f"{name} {other}\n")
    changes = {"UserKnownHostsFile": str(tmp_path / "known_hosts")}
    untouched.settings["ssh_config"] = _config(host, tmp_path, changes)
    said = refused(untouched, "prefect.setup")
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in said
    assert "ssh-keygen -R platform-lab" in said


@pytest.fixture
def deployer(host: LabHost, ssh: Ssh) -> Iterator[Callable[[str], None]]:
    """Gives the lab's ordinary user another `docker` (a script, or none at all)."""
    home = ssh("getent passwd deployer | cut -d: -f6").strip()

    def give(script: str) -> None:
        tools = "sh bash id sudo awk df dirname sed uname cat"
        ssh(f"mkdir -p {home}/bin && for t in {tools}; do ln -sf $(command -v $t) {home}/bin/ || true; done")
        if script:
            subprocess.run(
                [
                    "ssh",
                    "-F",
                    host.ssh_config,
                    host.host,
                    f"cat >{home}/bin/docker && chmod 755 {home}/bin/docker",
                ],
                input=script,
                text=True,
                check=True,
            )
        ssh(f"echo 'PATH={home}/bin' >{home}/.bashrc")

    yield give
    ssh(f"rm -rf {home}/bin {home}/.bashrc")


def test_a_host_without_docker_or_with_an_old_compose(
    untouched: Vps, deployer: Callable[[str], None]
) -> None:
    untouched.settings["host"] = "platform-lab-deployer"
    deployer("")
    said = refused(untouched, "prefect.setup")
    assert "docker is not installed" in said
    assert "./invoke host.prepare" in said
    deployer("#!/bin/sh\ncase \"$*\" in *'compose version'*) echo 2.20.3;; *) exit 0;; esac\n")
    said = refused(untouched, "prefect.setup")
    assert "Docker Compose 2.20.3; 2.24 or newer is needed" in said


def test_a_disk_that_is_nearly_full(untouched: Vps, ssh: Ssh) -> None:
    ssh("mkdir -p /srv/small && mount -t tmpfs -o size=100m small /srv/small")
    try:
        untouched.settings["root"] = "/srv/small/platform"
        said = refused(untouched, "vault.setup")
        assert "MiB free under /srv/small/platform, 2048 MiB needed" in said
        assert ssh("ls -A /srv/small").strip() in ("", "platform")
    finally:
        ssh("umount /srv/small")


def test_a_port_that_somebody_has(untouched: Vps) -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        port = listener.getsockname()[1]
        traefik: dict[str, Any] = untouched.settings["traefik"]
        untouched.settings["traefik"] = {**traefik, "http_port": port}
        said = refused(untouched, "traefik.setup")
    assert f"port {port}, which traefik-gateway publishes, is taken by" in said
    assert "platform.environments.lab.traefik.http_port" in said


def test_a_wrong_vault_token(untouched: Vps) -> None:
    said = refused(untouched, "prefect.setup", VAULT_TOKEN="hvs.wrong")
    assert "VAULT_TOKEN" in said or "token" in said
    assert "hvs.wrong" not in said


def test_a_plan_gives_the_same_answers(untouched: Vps, host: LabHost, tmp_path: Path) -> None:
    assert "nothing to do" in untouched.invoke("prefect.plan").stdout
    untouched.settings["prefect"] = {"image": "redis:latest"}
    assert "is not an image with its exact version" in refused(untouched, "prefect.plan")
    untouched.settings["prefect"] = {"replicass": 2}
    assert "did you mean" in refused(untouched, "prefect.plan")
