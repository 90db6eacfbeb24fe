"""A setup that is killed at any step is finished by the next one; two at once wait for each other.

tests/unit/test_rules_interrupted.py interrupts a setup before and after every one of its commands; here each kind of step is killed for real.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Docker
from .vps import Vps, containers

# The first test of a group waits for the images to be built.
pytestmark = pytest.mark.timeout(1200)
Ssh = Callable[..., str]
IMAGE, NEWER = "prefecthq/prefect:3.8.8-python3.12", "prefecthq/prefect:3.8.9-python3.12"
KILLER = """#!/bin/sh
exec 3<&0
case "$*" in
*"$KILLED_AT"*)
    touch "$0.used"
    {ssh} "$@" <&3 3<&- &
    sleep "$KILLED_AFTER"
    kill -KILL 0
    ;;
esac
exec {ssh} "$@" 3<&-
"""
"""An ssh that lets the host begin one command, known by a part of it, and kills the whole process group that it runs in."""
STEPS = (
    {
        "the lock is taken": ("flock -n 9", 0),
        "the release is sent": ('tar -C "$1" -xf -', 0),
        "the routes are served": ('cat >"$1/.$2.tmp"', 0),
        "containers are about to change": ("--remove-orphans", 0),
    },
    {
        "containers are being replaced": ("--remove-orphans", 3),
        "the release becomes current": ("mv -T", 0),
        "the history is written": ('cat >>"$1"', 0),
        "old releases are deleted": ("shift && rm -rf", 0),
    },
)
"""Every kind of change that a setup makes on the host → a part of its command there, and seconds until the kill; in the order of a setup."""
UPGRADE_STEPS = {
    "the database is dumped": ("pg_dump", 0),
    "the database is migrated": ("--exit-code-from", 2),
}
OLD = " ".join(f"releases/20200101T0000{number:02}Z-00000000" for number in range(10))
"""So that there is one to delete."""
LATER_STEPS = ("running checks", "running the canary flow")
"""What setup says when it begins what it does through the public URL."""


def start(vps: Vps, *words: str, **environ: str) -> subprocess.Popen[str]:
    """The command in a process group of its own."""
    names = ("PREFECT_", "INVOKE_", "VAULT_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    command = [str(vps.root / "invoke"), words[0], "--env", "lab", *words[1:]]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=clean | environ, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )


def change(vps: Vps, number: int, **prefect: str) -> None:
    """Work for a setup: another poll each time, and never the default."""
    worker = {"name": "default", "pool": "default", "poll_seconds": 3 + number % 5}
    vps.settings["prefect"] = {"workers": [worker], **prefect}
    vps.write()


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PATH with KILLER in it."""
    folder, real = tmp_path_factory.mktemp("killer"), shutil.which("ssh")
    assert real
    program = folder / "ssh"
    program.write_text(KILLER.format(ssh=real))
    program.chmod(0o755)
    return folder


@pytest.fixture
def changed(standing: Vps, docker: Docker, ssh: Ssh) -> Iterator[Vps]:
    """The platform, whose settings a test changes; afterwards everything is as whole as after a setup that nobody killed."""
    docker("tag", IMAGE, NEWER)
    yield standing
    assert "nothing to do" in standing.invoke("prefect.plan").stdout
    current = ssh("readlink /opt/platform/lab/prefect/current").strip()
    assert ssh(f"ls /opt/platform/lab/prefect/{current}").split() == [
        "compose.yml",
        "files",
        "routes.yml",
        "services.json",
    ]
    assert not ssh("find /opt/platform -name '*.tmp'").strip()
    standing.settings["prefect"] = {}
    standing.write()
    standing.invoke("prefect.setup")


def test_killed_at_each_kind_of_step_the_next_setup_goes_on(
    changed: Vps, docker: Docker, ssh: Ssh, killer: Path
) -> None:
    """Each setup gets past the step at which the one before was killed, or it could not be killed at the next; the last of a round ends."""
    number = 0
    ssh(f"cd /opt/platform/lab/prefect && for number in {OLD}; do cp -a $(readlink current) $number; done")
    for steps, said in zip(STEPS, LATER_STEPS, strict=True):
        for step, (part, seconds) in steps.items():
            number += 1
            change(changed, number)
            _kill_at(changed, killer, step, part, seconds)
        number += 1
        change(changed, number)
        _killed_when(changed, said)
        _converges(changed, docker, number)


def test_an_upgrade_killed_at_its_dump_and_its_migration_is_finished(
    changed: Vps, docker: Docker, killer: Path
) -> None:
    for number, (step, (part, seconds)) in enumerate(UPGRADE_STEPS.items()):
        image = (NEWER, IMAGE)[number]
        change(changed, number, image=image)
        _kill_at(changed, killer, step, part, seconds)
        _converges(changed, docker, number)
        assert containers(docker)["platform-prefect-server-lab"]["Config"]["Image"] == image


def _kill_at(vps: Vps, killer: Path, step: str, part: str, seconds: int) -> None:
    used = killer / "ssh.used"
    used.unlink(missing_ok=True)
    path = f"{killer}:{os.environ['PATH']}"
    process = start(vps, "prefect.setup", PATH=path, KILLED_AT=part, KILLED_AFTER=str(seconds))
    _, said = process.communicate()
    assert used.exists(), f"{step}: no command of this setup has {part!r} in it\n{said}"
    assert process.returncode == -signal.SIGKILL, step


def _killed_when(vps: Vps, said: str) -> None:
    with start(vps, "prefect.setup") as process:
        assert process.stderr
        lines = [process.stderr.readline()]
        while said not in lines[-1]:
            assert lines[-1], f"it ended without saying {said!r}:\n{''.join(lines)}"
            lines.append(process.stderr.readline())
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL, "it had ended before it could be killed"


def _converges(vps: Vps, docker: Docker, number: int) -> None:
    done = vps.invoke("prefect.setup")
    assert "FAIL" not in done.stdout
    assert f"PREFECT_WORKER_QUERY_SECONDS={3 + number % 5}" in _environment(docker)


def _environment(docker: Docker) -> list[str]:
    return list(containers(docker)["platform-prefect-worker-lab"]["Config"]["Env"])


def test_the_second_of_two_waits_for_the_first(standing: Vps) -> None:
    change(standing, 3)
    first = start(standing, "prefect.setup")
    assert first.stderr
    while "starting prefect" not in (line := first.stderr.readline()):
        assert line, "it ended without doing anything"
    at_once = standing.invoke("prefect.setup", "--wait", "0", code=None)
    assert at_once.returncode == 4, at_once.stderr
    assert "in use by prefect.setup by " in at_once.stderr
    assert standing.invoke("prefect.status", code=None).returncode in (0, 5), "who only looks does not wait"
    second = start(standing, "prefect.setup")
    assert first.communicate()[1] is not None
    assert first.returncode == 0
    _, said = second.communicate()
    assert second.returncode == 0, said
    assert "waiting for prefect.setup by " in said
    assert "nothing changed" in said
    standing.settings["prefect"] = {}
    standing.write()
    standing.invoke("prefect.setup")


def test_a_killed_setup_holds_nobody_up(standing: Vps) -> None:
    change(standing, 4)
    first = start(standing, "prefect.setup")
    assert first.stderr
    while "starting prefect" not in first.stderr.readline():
        assert first.poll() is None
    assert first.poll() is None, "it had ended before it could be killed"
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    standing.settings["prefect"] = {}
    standing.write()
    standing.invoke("prefect.setup", "--wait", "15")
