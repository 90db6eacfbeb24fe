"""A disk that fills up, Ctrl-C, SIGKILL, two at once, a process that keeps dying: said, and the same command goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from .conftest import Clone, free_ports
from .refusal import refused, state_of

pytestmark = pytest.mark.timeout(600)
SETUP = ("prefect.setup", "--env", "second")
INTERRUPTED = (130, -signal.SIGINT)
"""A shell calls both 130. The second is a Ctrl-C that came while Python was still importing."""


def _until(true: Callable[[], object], seconds: float = 60, rest: float = 0.02) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(rest)


def _left(folder: Path) -> list[psutil.Process]:
    """Processes of an environment, supervisord first: it would start the others anew."""
    mark, config = f"'PREFECT_PLATFORM_STATE': '{folder}'", f"{folder}/run/supervisord.conf"
    all_of_them = list(psutil.process_iter(["environ", "cmdline"]))
    supervisors = [each for each in all_of_them if config in (each.info["cmdline"] or [])]
    return supervisors + [each for each in all_of_them if mark in str(each.info["environ"])]


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)


@pytest.fixture
def second(platform: Clone) -> Iterator[Path]:
    """A second environment beside the running one, on the same runtime: its state folder, empty. Nothing of it stays."""
    names = ("port", "verifier_port", "auth_port", "ops_port")
    gateway = dict(zip(names, free_ports(4), strict=True))
    platform.settings["environments"] = {
        "second": {"gateway": gateway, "prefect": {"port": free_ports(1)[0]}}
    }
    platform.write()
    folder = platform.root / ".state" / "second"
    try:
        yield folder
        platform.invoke("prefect.remove", "--env", "second", "--yes", "--data")
        assert _left(folder) == []
    finally:
        _kill(_left(folder))
        del platform.settings["environments"]
        platform.write()


@pytest.fixture
def disk(platform: Clone, second: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a disk of so many MiB as the second environment's state. Mounting needs root, as CI has."""
    mounted = []

    def mount(size: int) -> Path:
        second.mkdir(exist_ok=True)
        options = f"size={size}m,mode=700,uid={second.parent.stat().st_uid}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(second)], check=True)
        mounted.append(second)
        return second

    try:
        yield mount
        platform.invoke("prefect.remove", "--env", "second", "--yes", "--data")
        assert _left(second) == []
    finally:
        _kill(_left(second))
        for each in mounted:
            subprocess.run(["umount", "-l", str(each)], check=True)
            shutil.rmtree(each, ignore_errors=True)


def _fill(folder: Path) -> Path:
    with (folder / "filler").open("wb", buffering=0) as filler:
        for size in (1 << 20, 1 << 12):
            try:
                while filler.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return folder / "filler"


@pytest.mark.parametrize("full", [False, True])
def test_a_disk_too_small_is_said_before_anything_is_written(
    platform: Clone, disk: Callable[[int], Path], full: bool
) -> None:
    folder = disk(20)
    if full:
        _fill(folder)
    said = refused(platform, *SETUP, code=3)
    assert "MiB free, 200 MiB needed; nothing was changed" in said
    assert not {path.name for path in folder.iterdir()} - {"lock", "filler"}


@pytest.mark.parametrize("moment", ["run/supervisord.conf", "data/prefect/prefect.db"])
def test_a_disk_that_fills_up_is_said_and_with_room_the_same_command_goes_on(
    platform: Clone, disk: Callable[[int], Path], moment: str
) -> None:
    folder = disk(300)
    with platform.start(*SETUP) as process:
        _until((folder / moment).exists)
        filler = _fill(folder)
        said = process.communicate(timeout=300)[1]
    assert process.returncode in (5, 6), said
    assert "Traceback" not in said
    assert "\nhint: free disk space" in said
    assert str(folder) in said
    if process.returncode == 5:
        assert "0 MiB free" in platform.invoke("prefect.status", "--env", "second", code=5).stdout
    filler.unlink()
    platform.invoke(*SETUP)
    platform.invoke("prefect.status", "--env", "second")


@dataclass(frozen=True)
class Moment:
    """When a setup gets the signal: once it holds the lock and this file of its state is there, or has said this; neither: at its start."""

    sign: signal.Signals
    file: str = ""
    said: str = ""


FIRST = (
    Moment(signal.SIGINT),
    Moment(signal.SIGKILL, file="lock"),
    Moment(signal.SIGINT, file="secrets/prefect.json"),
    Moment(signal.SIGKILL, file="stacks/prefect/server.py"),
    Moment(signal.SIGINT, file="run/supervisord.conf"),
    Moment(signal.SIGKILL, file="data/prefect/prefect.db"),
    Moment(signal.SIGINT, said="running checks"),
)
"""One in each kind of step, in their order: what one leaves unfinished the next begins with."""
CHANGE = (
    Moment(signal.SIGINT),
    Moment(signal.SIGKILL, said="stopping prefect-"),
    Moment(signal.SIGINT, said="starting prefect-"),
    Moment(signal.SIGKILL, said="running checks"),
    Moment(signal.SIGINT, said="running the canary flow"),
)


def _interrupt(platform: Clone, state: Path, moment: Moment) -> None:
    """Start a setup and send the signal to all of its process group, as a terminal does."""
    with platform.start(*SETUP) as process:
        said = _until_moment(process, state, moment)
        assert process.poll() is None, f"it had ended before {moment}: {said}"
        os.killpg(process.pid, moment.sign)
        said += process.communicate(timeout=120)[1]
    # Python's own start, before any of our code, says a Ctrl-C in its own words.
    assert "Traceback" not in said or "prefect_platform" not in said.partition("Traceback")[2], said
    assert process.returncode in ((-moment.sign,) if moment.sign == signal.SIGKILL else INTERRUPTED), said


def _until_moment(process: subprocess.Popen[str], state: Path, moment: Moment) -> str:
    """What the setup said until then."""
    if moment.said:
        assert process.stderr
        lines = [process.stderr.readline()]
        while lines[-1] and moment.said not in lines[-1]:
            lines.append(process.stderr.readline())
        return "".join(lines)
    if not moment.file:
        time.sleep(0.1)
        return ""
    lock, file = state / "lock", state / moment.file
    _until(lambda: lock.exists() and f"pid {process.pid}," in lock.read_text() and file.exists(), rest=0.002)
    return ""


def test_a_first_setup_interrupted_at_any_step_goes_on(platform: Clone, second: Path) -> None:
    for moment in FIRST:
        _interrupt(platform, second, moment)
    _converges(platform)


def test_a_change_interrupted_at_any_step_goes_on(platform: Clone, second: Path) -> None:
    platform.invoke(*SETUP)
    for number, moment in enumerate(CHANGE, 1):
        section = platform.settings["environments"]["second"]["prefect"]
        section |= {"retention_days": number, "heartbeat_seconds": 30 + number}
        platform.write()
        _interrupt(platform, second, moment)
    _converges(platform)


def test_a_supervisord_that_lost_its_socket_is_ended_with_all_it_runs(platform: Clone, second: Path) -> None:
    platform.invoke(*SETUP)
    assert len(_left(second)) >= 5
    (second / "run" / "supervisor.sock").unlink()
    platform.invoke("prefect.stop", "--env", "second")
    assert _left(second) == []


def _converges(platform: Clone) -> None:
    platform.invoke(*SETUP)
    assert "nothing changed" in platform.invoke(*SETUP).stderr
    platform.invoke("prefect.status", "--env", "second")
    assert platform.status()["healthy"]  # the environment beside it noticed nothing


def test_two_setups_at_once_succeed_one_after_the_other(platform: Clone) -> None:
    platform.settings["prefect"]["retention_days"] = 51
    platform.write()
    with platform.start("prefect.setup") as first:
        try:
            _until(lambda: f"pid {first.pid}," in (state_of(platform) / "lock").read_text())
            os.kill(first.pid, signal.SIGSTOP)  # it cannot finish meanwhile, however slow the others are
            holder = f"prefect.setup (pid {first.pid}, since "
            said = refused(platform, "prefect.setup", "--wait", "1", code=4)
            assert f"in use by {holder}" in said
            with platform.start("prefect.setup") as then:
                assert then.stderr is not None
                assert f"waiting for {holder}" in then.stderr.readline()
                first.send_signal(signal.SIGCONT)
                assert first.wait(300) == 0
                assert "nothing changed" in then.communicate(timeout=300)[1]
            assert then.returncode == 0
        finally:
            first.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("service", ["worker", "server"])
def test_a_process_that_keeps_dying_is_never_called_healthy(platform: Clone, service: str) -> None:
    name = next(each for each in platform.pids() if each.startswith(f"prefect-{service}"))
    program = state_of(platform) / "stacks" / "prefect" / f"{service}.py"
    program.write_text("import time; time.sleep(1); raise SystemExit('the flux capacitor is empty')\n")
    os.kill(platform.pids()[name], signal.SIGKILL)

    def failing() -> bool:
        checks = {check["name"]: check for check in platform.status()["checks"]}
        return bool(checks[name]["detail"].startswith("FAILING: exited "))

    _until(failing, rest=1)
    for _ in range(3):
        seen = platform.invoke("prefect.status", code=5).stdout
        (line,) = [line for line in seen.splitlines() if f" {name} " in line]
        assert line.startswith("FAIL")
        assert "the flux capacitor is empty" in line
        time.sleep(0.3)
    platform.invoke(
        "prefect.setup"
    )  # writes the file anew and does not wait for the next of ever rarer attempts
    assert platform.status()["healthy"]
