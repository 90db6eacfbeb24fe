"""A setup that is killed at any moment is done by the next one; two at once wait for each other."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from .conftest import Docker
from .vps import Vps, containers

# Twenty kills; and the first test of a group waits for the images to be built.
pytestmark = pytest.mark.timeout(2400)
Ssh = Callable[..., str]
SEED = 20260802
KILLS = 20


def start(vps: Vps, *words: str) -> subprocess.Popen[str]:
    """The command in a process group of its own."""
    names = ("PREFECT_", "INVOKE_", "VAULT_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    command = [str(vps.root / "invoke"), words[0], "--env", "lab", *words[1:]]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environ, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def change(vps: Vps, number: int) -> None:
    """Work for a setup, another each time."""
    worker = {"name": "default", "pool": "default", "poll_seconds": 2 + number % 5}
    vps.settings["prefect"] = {"workers": [worker]}
    vps.write()


def test_killed_at_any_moment_the_next_setup_converges(standing: Vps, docker: Docker, ssh: Ssh) -> None:
    moments = random.Random(SEED)
    change(standing, 0)
    began = time.monotonic()
    standing.invoke("prefect.setup")
    whole = time.monotonic() - began
    number = 0
    for _ in range(KILLS):
        seconds, killed = moments.uniform(0.05, whole), False
        # One that had ended before its moment does not count.
        while not killed:
            number += 1
            change(standing, number)
            killed = _killed_after(seconds, standing)
            seconds /= 2
            assert killed or seconds > 0.01, "no setup was long enough to be killed"
        done = standing.invoke("prefect.setup")
        assert "FAIL" not in done.stdout
        assert f"PREFECT_WORKER_QUERY_SECONDS={2 + number % 5}" in _environment(docker)
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


def _killed_after(seconds: float, vps: Vps) -> bool:
    """Whether a setup still ran when it was killed."""
    process = start(vps, "prefect.setup")
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


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
