"""The lab's machine: one process tree in PID and mount namespaces of its own, with sshd and a Docker engine inside."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from prefect_platform.errors import ApplyError, LockedError
from prefect_platform.files import make_private, read_mapping, write_atomic

from . import network, ssh
from .commands import WHEN_LOST, attempt
from .layout import CODE, Layout

Say = Callable[[str], None]
_STARTS_WITHIN = 60.0
_STOPS_WITHIN = 45.0
_START_GUARD = Path("/run/prefect-platform-lab-start.lock")
_launched: list[subprocess.Popen[bytes]] = []
"""Python complains of a process whose object it forgets while it runs; this one is meant to outlive us."""


def find(layout: Layout) -> psutil.Process | None:
    """The machine's outermost process, if it runs. Raises LockedError if another lab uses this data root."""
    known = read_mapping(layout.record, WHEN_LOST)
    if not known:
        return None
    try:
        process = psutil.Process(int(known["pid"]))
        # The pid may have been reused.
        alive = process.create_time() == known["created"] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    if alive and known["state"] != str(layout.state):
        raise LockedError(
            f"{layout.cache}: the lab of {known['state']} runs on this cache",
            f"stop that one first (./invoke lab.down in its clone), or name another cache: {layout.cache}-2",
        )
    return process if alive else None


def answers(layout: Layout) -> str:
    """Empty if engine and sshd answer, else what does not."""
    code, _, said = attempt(
        ["docker", "--host", f"unix://{layout.socket}", "version", "--format", "ok"], timeout=10
    )
    if code:
        return f"the Docker engine does not answer: {said.strip()}"
    code, _, said = attempt(["ssh", "-F", layout.ssh_config, ssh.HOST, "true"], timeout=15)
    return f"sshd does not answer: {said.strip()}" if code else ""


def start(layout: Layout, say: Say) -> None:
    """Start it and wait until engine and sshd answer. Raises ApplyError with the end of the log that says why not."""
    make_private(layout.state)
    make_private(layout.cache)
    _fresh_run_folder(layout)
    ssh.write(layout)
    with _one_at_a_time():
        _start(layout, say)


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two labs that start together would both find no other engine, and take iptables from each other."""
    with _START_GUARD.open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def _start(layout: Layout, say: Say) -> None:
    others = network.iptables_are_taken()
    if others:
        say(
            "another Docker engine runs on this machine: the lab's engine leaves iptables to it, "
            "so networks of the lab are not isolated from each other"
        )
    net = network.prepare(layout, others)
    process = _launch(layout, net)
    try:
        _wait(layout, process)
    except BaseException:
        stop(layout)
        raise


def stop(layout: Layout, suddenly: bool = False) -> None:
    """End it: containers get their stop signals, unless `suddenly`, which is a power cut. Not running is fine."""
    outer = find(layout)
    if outer is not None:
        inner = [] if suddenly else outer.children()  # tini, which passes the signal on to dockerd
        for process in inner:
            process.send_signal(signal.SIGTERM)
        _gone, alive = psutil.wait_procs([outer], timeout=_STOPS_WITHIN if inner else 0)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=10)
    layout.record.unlink(missing_ok=True)


def _fresh_run_folder(layout: Layout) -> None:
    """Process ids left in the data root belong to a dead namespace: an engine that finds its own number among them refuses to start."""
    shutil.rmtree(layout.run, ignore_errors=True)
    layout.run.mkdir(mode=0o755, parents=True)
    layout.run.chmod(0o755)


def _launch(layout: Layout, net: network.Network) -> subprocess.Popen[bytes]:
    environment = {
        "LAB_STATE": str(layout.state),
        "LAB_RUN": str(layout.run),
        "LAB_DATA": str(layout.data),
        "LAB_NAME": layout.name,
        "LAB_POOL": net.docker_pool,
        "LAB_IPTABLES": "true" if net.alone else "false",
    }
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with (layout.state / "machine.log").open("wb") as log:
        process = subprocess.Popen(
            [*namespaces, "tini", "-s", "--", str(CODE / "lab" / "machine")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,  # a Ctrl-C in this terminal is not meant for it
            cwd="/",
        )
    _launched.append(process)
    created = psutil.Process(process.pid).create_time()
    known = {"pid": process.pid, "created": created, "state": str(layout.state)}
    write_atomic(layout.record, json.dumps(known).encode())
    return process


def _wait(layout: Layout, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _STARTS_WITHIN
    why = ""
    while time.monotonic() < until and process.poll() is None:
        if layout.socket.exists():
            why = answers(layout)
            if not why:
                return
        time.sleep(0.1)
    why = f"it ended with {process.poll()}" if process.poll() is not None else why or "no engine socket"
    raise ApplyError(f"lab: the machine did not start: {why}\n{_tail(layout)}", WHEN_LOST)


def _tail(layout: Layout) -> str:
    lines = [line for name in ("sshd.log", "machine.log") for line in _lines(layout.state / name)]
    return "\n".join(lines[-12:])


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
