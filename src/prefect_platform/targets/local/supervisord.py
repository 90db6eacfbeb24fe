"""supervisord for the local target: its configuration (pure) and its XML-RPC interface."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import psutil
from supervisor.xmlrpc import SupervisorTransport

from prefect_platform.errors import ApplyError
from prefect_platform.targets.combined.supervisord_conf import MARK

UMASK = 0o077
"""Of every process of the runtime: data, logs and byte code are the operator's alone."""
_BUSY = ("STOPPING", "RUNNING", "STARTING", "BACKOFF")
# A process gets these from us and nothing else of the operator's shell: an HTTP_PROXY would redirect Traefik's
# ForwardAuth calls, and any process that answers them admits every request.
_KEPT = ("HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "SSL_CERT_FILE", "SSL_CERT_DIR")


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What supervisord and, through it, every process inherits."""
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"} | {
        name: environ[name] for name in _KEPT if name in environ
    }


class Supervisor:
    """The supervisord of one state folder. Methods raise ApplyError when it fails."""

    def __init__(self, state: Path, python: Path) -> None:
        self.state = state
        self.python = python
        self.socket = state / "run" / "supervisor.sock"

    @property
    def config(self) -> Path:
        return self.state / "run" / "supervisord.conf"

    @contextlib.contextmanager
    def _rpc(self) -> Iterator[Any]:
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        with xmlrpc.client.ServerProxy("http://local", transport=transport) as proxy:
            yield proxy.supervisor

    def alive(self) -> bool:
        try:
            with self._rpc() as rpc:
                return bool(rpc.getState()["statename"] in ("RUNNING", "RESTARTING"))
        except (OSError, xmlrpc.client.Error, ConnectionError):
            return False

    def pid(self) -> int:
        """Its process id; 0 when it does not run."""
        try:
            with self._rpc() as rpc:
                return int(rpc.getPID())
        except (OSError, xmlrpc.client.Error):
            return 0

    def processes(self) -> list[dict[str, Any]]:
        """supervisord's own records (name, statename, pid, start, now, spawnerr, exitstatus); empty when it does not run."""
        try:
            with self._rpc() as rpc:
                return cast(list[dict[str, Any]], rpc.getAllProcessInfo())
        except (OSError, xmlrpc.client.Error):
            return []

    def start(self) -> None:
        """Start supervisord with a clean environment, detached from the terminal."""
        command = [str(self.python), "-m", "supervisor.supervisord", "-c", str(self.config)]
        env = clean_environment(os.environ)
        done = subprocess.run(
            command,
            env=env,
            capture_output=True,
            text=True,
            start_new_session=True,
            cwd=self.state,
            umask=UMASK,
        )
        if done.returncode:
            raise ApplyError(
                f"supervisord did not start: {(done.stderr or done.stdout).strip()}",
                f"see {self.state}/logs/supervisord.log",
            )
        wait_until(self.alive, 15, "supervisord does not answer", f"see {self.state}/logs/supervisord.log")

    def shutdown(self, say: Callable[[str], None], seconds: float) -> None:
        try:
            with self._rpc() as rpc:
                rpc.shutdown()
        except OSError:
            return
        wait_until(lambda: not self.alive(), seconds, "supervisord did not stop", "run the command again")

    def stop(self, name: str, say: Callable[[str], None], seconds: float) -> None:
        """Stop a process and wait: it may be draining, so say so every ten seconds."""
        began, told = time.monotonic(), time.monotonic()
        while (state := self.state_of(name)) in _BUSY:
            # Not while it stops already, for an interrupted setup: supervisord refuses to stop it twice.
            if state != "STOPPING":
                with contextlib.suppress(xmlrpc.client.Fault), self._rpc() as rpc:
                    rpc.stopProcess(name, False)
            if time.monotonic() - began > seconds + 20:
                raise ApplyError(
                    f"{name}: still stopping after {seconds + 20:.0f} s", "run the command again"
                )
            if time.monotonic() - told > 10:
                told = time.monotonic()
                say(
                    f"  {name}: waiting for it to finish its work ({told - began:.0f} of at most {seconds:.0f} s)"
                )
            time.sleep(0.1)

    def state_of(self, name: str) -> str:
        return next((str(info["statename"]) for info in self.processes() if info["name"] == name), "")

    def replace(self, name: str, wanted: bool) -> None:
        """Forget the (stopped) program and, if wanted, load it from the configuration, which starts it."""
        try:
            with self._rpc() as rpc:
                rpc.reloadConfig()
                if any(info["name"] == name for info in self.processes()):
                    rpc.removeProcessGroup(name)
                if wanted:
                    rpc.addProcessGroup(name)
        except xmlrpc.client.Fault as fault:
            raise ApplyError(
                f"{name}: supervisord refused: {fault.faultString}", "run the command again"
            ) from None
        except OSError:
            raise ApplyError(
                f"{name}: supervisord does not answer", "./invoke prefect.setup starts it"
            ) from None


def wait_until(done: Callable[[], bool], seconds: float, what: str, hint: str) -> None:
    """Poll until true. Raises ApplyError after `seconds`."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise ApplyError(f"{what} (waited {seconds:.0f} s)", hint)
        time.sleep(0.05)


def lost_supervisors(config: Path, alive: int) -> list[psutil.Process]:
    """supervisords of this configuration other than `alive`: with their socket gone nobody reaches them, and they restart what is ended."""
    found = []
    for process in psutil.process_iter(["pid"]):
        with contextlib.suppress(psutil.Error):
            if process.pid != alive and process.cmdline()[1:] == [
                "-m",
                "supervisor.supervisord",
                "-c",
                str(config),
            ]:
                found.append(process)
    return found


def orphans(state: Path, known: set[int], argvs: Sequence[Sequence[str]]) -> list[psutil.Process]:
    """Our processes without a supervisord, recognised by the mark in their environment and their command line.

    Flow runs inherit the mark but not the command line: they are left to finish.
    """
    found = []
    for process in psutil.process_iter(["pid"]):
        try:
            if process.pid in known or process.environ().get(MARK) != str(state):
                continue
            line = process.cmdline()
            if any(line and line == _executed(argv) for argv in argvs):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _executed(argv: Sequence[str]) -> list[str]:
    # `/bin/sh entrypoint.sh program …` has become `program …`.
    return list(argv[2:] if argv[0] == "/bin/sh" else argv)


def end(processes: Sequence[psutil.Process], seconds: float) -> None:
    """SIGTERM, wait, then SIGKILL what is left."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=5)
