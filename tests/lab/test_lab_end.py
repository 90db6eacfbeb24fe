"""Power cuts, interruptions and the end of a lab, which leaves nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import prefect_platform_lab
from prefect_platform_lab.engine import cgroups
from prefect_platform_lab.layout import CACHE_VARIABLE, of

from .conftest import Docker, call, docker_of, say

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, docker: Docker) -> Iterator[tuple[Path, Docker]]:
    """A second lab beside the first, with one image in it, whose end a test may bring about."""
    root = tmp_path / "a clone"
    root.mkdir()
    with monkeypatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
        made = prefect_platform_lab.up(root, say, standins=False)
        ours = docker_of(made)
        docker("save", "-o", tmp_path / "image.tar", "redis:8.10.2")
        ours("load", "-i", tmp_path / "image.tar")
        try:
            yield root, ours
        finally:
            prefect_platform_lab.down(root, say, everything=True)


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


def _marks(root: Path) -> list[str]:
    """What a running lab with this root can be known by, on this machine."""
    place = of(root)
    pool = json.loads((place.state / "network.json").read_text())["pool"]
    return [place.name, str(place.run), str(place.state), pool.removesuffix("0.0/16")]


def _traces(root: Path, marks: list[str]) -> dict[str, list[str]]:
    """All that the lab has on the machine now."""
    place = of(root)

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
        "cgroups": [str(each) for each in cgroups(place)],
        "run": [str(each) for each in Path("/run").iterdir() if each == place.run],
        "accounts": [line for line in Path("/etc/passwd").read_text().splitlines() if "deployer" in line],
    }


def test_down_leaves_nothing_but_images(small: tuple[Path, Docker]) -> None:
    root, docker = small
    _occupy(docker)
    marks = _marks(root)
    before = _traces(root, marks)
    assert before["processes"]
    assert before["network"]
    prefect_platform_lab.down(root, say)
    assert {what: found for what, found in _traces(root, marks).items() if found} == {}
    assert not prefect_platform_lab.status(root)["up"]
    said: list[str] = []
    again = docker_of(prefect_platform_lab.up(root, said.append, standins=False))
    assert [again("ps", "-aq"), again("volume", "ls", "-q")] == ["", ""]
    assert "left-over" not in again("network", "ls")
    assert "redis" in again("images")
    prefect_platform_lab.down(root, say, everything=True)
    assert {what: found for what, found in _traces(root, marks).items() if found} == {}
    assert not of(root).state.exists()
    assert not of(root).data.exists()
    prefect_platform_lab.down(root, say)  # of nothing is fine


def test_after_a_power_cut_only_restart_policies_count(small: tuple[Path, Docker]) -> None:
    root, docker = small
    _occupy(docker)
    docker("run", "-d", "--name", "once", "redis:8.10.2")
    prefect_platform_lab.reboot(root, say)
    until = time.monotonic() + 30
    while docker("ps", "--format", "{{.Names}}").split() != ["left-over-2", "left-over-1"]:
        assert time.monotonic() < until, docker("ps", "-a")
        time.sleep(0.2)


def test_a_killed_machine_is_cleaned_up_as_well(small: tuple[Path, Docker]) -> None:
    root, docker = small
    _occupy(docker)
    marks = _marks(root)
    pid = prefect_platform_lab.status(root)["pid"]
    machine = psutil.Process(pid)
    machine.kill()
    machine.wait(timeout=10)
    assert not prefect_platform_lab.status(root)["up"]
    prefect_platform_lab.down(root, say)
    assert {what: found for what, found in _traces(root, marks).items() if found} == {}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_up_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    program = f"from pathlib import Path; import prefect_platform_lab as lab; lab.up(Path({str(tmp_path)!r}), print, standins=False)"
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
            assert prefect_platform_lab.status(tmp_path)["pid"] is None
        made = prefect_platform_lab.up(tmp_path, say, standins=False)
        marks = _marks(tmp_path)
        assert re.match(r"\d+\.", docker_of(made)("version", "--format", "{{.Server.Version}}"))
    finally:
        prefect_platform_lab.down(tmp_path, say, everything=True)
    assert {what: found for what, found in _traces(tmp_path, marks).items() if found} == {}
