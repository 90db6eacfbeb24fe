"""A port forwarded over ssh."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from prefect_platform.targets.docker import runner

from .vps import Vps


def test_a_port_that_another_took_meanwhile_is_passed_over(
    vps: Vps, ssh: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        ports = iter([holder.getsockname()[1], _free()])
        monkeypatch.setattr(runner, "_free_port", lambda: next(ports))
        there = runner.SshRunner(vps.settings["host"], Path(vps.settings["ssh_config"]))
        with there.forward("127.0.0.1", 22) as (host, port), socket.create_connection((host, port)) as said:
            assert said.recv(8).startswith(b"SSH-2.0-")
    assert next(ports, None) is None


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
