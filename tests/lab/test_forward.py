"""A port forwarded over ssh."""

from __future__ import annotations

import socket
import subprocess

import pytest

from prefect_platform.targets.docker import runner
from prefect_platform_lab import LabHost, ssh


def test_a_port_that_another_took_meanwhile_is_passed_over(
    host: LabHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        ports = iter([holder.getsockname()[1], _free()])
        monkeypatch.setattr(runner, "_free_port", lambda: next(ports))
        there = runner.SshRunner(host.host, host.ssh_config)
        there.run(["true"])
        sshd = ssh.port_of(host.ssh_config)
        with there.forward("127.0.0.1", sshd) as at, socket.create_connection(at) as said:
            assert said.recv(8).startswith(b"SSH-2.0-")
    assert next(ports, None) is None


def test_a_connection_that_is_not_open_yet_is_opened(host: LabHost) -> None:
    there = runner.SshRunner(host.host, host.ssh_config)
    subprocess.run([*there._base, "-O", "exit", host.host], capture_output=True)
    sshd = ssh.port_of(host.ssh_config)
    with there.forward("127.0.0.1", sshd) as at, socket.create_connection(at) as said:
        assert said.recv(8).startswith(b"SSH-2.0-")


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
