"""Real servers, workers and Traefik as processes of the runtime's Python (`PLATFORM_TEST_PYTHON`)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

STACK = Path(__file__).resolve().parents[2] / "stacks" / "prefect"
WAIT_SECONDS = 90.0


def runtime_python() -> str:
    """The Python that holds Prefect; this one unless `PLATFORM_TEST_PYTHON` names another."""
    return os.environ.get("PLATFORM_TEST_PYTHON", sys.executable)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
    """Return the first true value of `condition`; transport errors count as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            value = condition()
        except httpx.TransportError:
            value = None
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.1)


class Process:
    """A child process with its output in a file."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def stop(self, seconds: float = 60.0) -> int:
        """SIGTERM, then the exit code."""
        self.signal(signal.SIGTERM)
        return self.popen.wait(seconds)

    def end(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()


class Platform:
    """Starts processes in one folder with one environment, and ends all of them."""

    def __init__(self, folder: Path, shared: Path) -> None:
        self.folder = folder
        self.shared = shared
        self.port = free_port()
        self.processes: list[Process] = []

    @property
    def database(self) -> Path:
        return self.folder / "home" / "prefect.db"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def env(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        return {
            **kept,
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(self.shared / "ui"),
            **more,
        }

    def run(self, name: str, command: list[str], **env: str) -> Process:
        process = Process(command, self.env(**env), self.folder / f"{name}.log")
        self.processes.append(process)
        return process

    def server(self, *options: str, stock: bool = False, **env: str) -> Process:
        """Start the server and wait until it is healthy."""
        launcher = ["-m", "prefect", "server", "start"] if stock else [str(STACK / "server.py")]
        process = self.run("server", [runtime_python(), *launcher, "--port", str(self.port), *options], **env)
        wait_for(lambda: self.healthy(process), "the server's health")
        return process

    def healthy(self, process: Process) -> bool:
        assert process.popen.poll() is None, process.output()
        # Asked ten times a second: reading the certificates of the world each time would cost as much as the start.
        return httpx.get(f"{self.url}/health", verify=False).status_code == 200

    def worker(self, name: str, *options: str, **env: str) -> Process:
        command = [runtime_python(), str(STACK / "worker.py"), "--pool", "tests", "--name", name, *options]
        settings = {"PREFECT_API_URL": self.url, "PREFECT_WORKER_QUERY_SECONDS": "1", **env}
        return self.run(name, command, **settings)

    def end(self) -> None:
        for process in reversed(self.processes):
            process.end()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this test run for what all servers may share."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="session")
def template(shared: Path) -> Path:
    """A migrated database made by the launcher itself."""
    path = shared / "template.db"
    command = [runtime_python(), str(STACK / "server.py"), "make-template", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def platform(tmp_path: Path, shared: Path) -> Iterator[Platform]:
    """An empty place for servers and workers."""
    place = Platform(tmp_path, shared)
    yield place
    place.end()


@pytest.fixture(scope="module")
def shared_platform(
    tmp_path_factory: pytest.TempPathFactory, shared: Path, template: Path
) -> Iterator[Platform]:
    """A running server with the pool `tests`, for the tests of one module."""
    place = Platform(tmp_path_factory.mktemp("platform"), shared)
    place.server("--template", str(template))
    httpx.post(f"{place.url}/work_pools/", json={"name": "tests", "type": "process"}).raise_for_status()
    yield place
    place.end()
