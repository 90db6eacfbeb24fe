"""A real Prefect client elsewhere: its own environment and home, configured by `prefect.client-env` alone, through the gateway."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from .conftest import Clone

pytestmark = pytest.mark.timeout(300)

FLOW = """
from prefect import flow, task


@task
def double(x: int) -> int:
    return 2 * x


@flow(log_prints=True)
def hello(name: str = "nobody") -> int:
    print(f"hello from {name}")
    return double(21)


if __name__ == "__main__":
    hello.serve(name="served")
"""
PREFECT = ("-m", "prefect", "--no-prompt")
DEPLOY = (*PREFECT, "deploy", "hello.py:hello")


class Client:
    """Runs the developers' Python, which has the platform's Prefect version, with nothing of its own but a folder."""

    def __init__(self, platform: Clone, token: str) -> None:
        # Not pytest's: the platform's worker, another user, reads the flow there.
        self.folder = Path(tempfile.mkdtemp(prefix="client-"))
        self.folder.chmod(0o755)
        (self.folder / "hello.py").write_text(FLOW)
        self.lines = platform.invoke("prefect.client-env", "--token", token).stdout
        self.api = httpx.Client(
            base_url=f"{platform.url}/prefect/api",
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        )

    def start(
        self, *words: str, lines: str | None = None, into: IO[str] | None = None
    ) -> subprocess.Popen[str]:
        """The command in the background, output and errors in one, in a session of its own."""
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PREFECT_HOME": str(self.folder / "home"),
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "300",
            "LINES": self.lines if lines is None else lines,
        }
        return subprocess.Popen(
            ["sh", "-c", 'eval "$LINES"; unset LINES; exec "$@"', "sh", sys.executable, *words],
            env=env,
            cwd=self.folder,
            stdout=into or subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str) -> str:
        with _ended(self.start(*words)) as process:
            out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, f"{words}\n{out}"
        return out

    def read(self, method: str, path: str, **body: Any) -> Any:
        answer = self.api.request(method, path, json=body or None)
        answer.raise_for_status()
        return answer.json()

    def run_deployment(self, name: str) -> str:
        """Run it and follow it to its end; the run's id, its task run being recorded and its log line readable."""
        self.run(*PREFECT, "deployment", "run", f"hello/{name}", "--param", f"name={name}", "--watch")
        (run,) = self.read("POST", "/flow_runs/filter", deployments={"name": {"any_": [name]}})
        assert run["state_type"] == "COMPLETED"
        tasks = {
            "flow_runs": {"id": {"any_": [run["id"]]}},
            "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
        }
        _until(lambda: self.read("POST", "/task_runs/count", **tasks) == 1, "the task run was not recorded")
        _until(
            lambda: f"hello from {name}" in self.run(*PREFECT, "flow-run", "logs", run["id"]), "no log line"
        )
        return str(run["id"])


@contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """The process, which ends with its session's. Prefect 3.8.8's worker now and then needs the second signal."""
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()


def _until(done: Callable[[], object], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.3)


@pytest.fixture(scope="module")
def client(clone: Clone, token: str) -> Iterator[Client]:
    made = Client(clone, token)
    yield made
    made.api.close()
    shutil.rmtree(made.folder)


@contextmanager
def _events(client: Client) -> Iterator[Path]:
    """`prefect events stream` into a file (its own --output-file crashes in Prefect 3.8.8), once events come out of it."""
    file = client.folder / "events.txt"
    words = (*PREFECT, "events", "stream", "--format", "text")
    with file.open("w") as into, _ended(client.start(*words, into=into)) as process:

        def streams() -> bool:
            assert process.poll() is None, file.read_text()
            event = {
                "id": str(uuid.uuid4()),
                "occurred": datetime.now(UTC).isoformat(),
                "event": "tests.listening",
                "resource": {"prefect.resource.id": "tests.client"},
            }
            client.api.post("/events", json=[event]).raise_for_status()
            return "tests.listening" in file.read_text()

        _until(streams, "no event came out of the stream")
        yield file


def test_a_flow_from_a_folder_runs_on_the_platforms_worker(client: Client) -> None:
    assert "default" in client.run(*PREFECT, "work-pool", "ls")
    client.run(*DEPLOY, "-n", "deployed", "-p", "default")
    with _events(client) as file:
        run = client.run_deployment("deployed")
        for event in ("flow-run.Pending", "flow-run.Running", "flow-run.Completed"):
            line = f"prefect.{event} prefect.flow-run.{run}"
            _until(lambda line=line: line in file.read_text(), f"not streamed: {line}")  # type: ignore[misc]


def test_a_served_flow_runs_in_its_own_process(client: Client) -> None:
    def served() -> bool:
        return client.api.get("/deployments/name/hello/served").status_code == 200

    log = client.folder / "served.txt"
    with log.open("w") as into, _ended(client.start("hello.py", into=into)) as process:
        _until(lambda: served() or process.poll() is not None, "hello.serve() registered no deployment")
        assert process.poll() is None, log.read_text()
        client.run_deployment("served")
    assert "hello from served" in log.read_text(), "it ran, but not here"


def test_a_second_worker_runs_what_its_pool_gets(client: Client) -> None:
    client.run(*PREFECT, "work-pool", "create", "elsewhere", "--type", "process")
    try:
        client.run(*DEPLOY, "-n", "elsewhere", "-p", "elsewhere")
        worker = (*PREFECT, "worker", "start", "--pool", "elsewhere", "--name", "second")
        log = client.folder / "worker.txt"
        with log.open("w") as into, _ended(client.start(*worker, into=into)):
            run = client.run_deployment("elsewhere")
            (seen,) = client.read("POST", "/work_pools/elsewhere/workers/filter")
            assert (seen["name"], seen["status"]) == ("second", "ONLINE")
        assert run in log.read_text(), "it ran, but not on this worker"
    finally:
        client.api.delete("/work_pools/elsewhere").raise_for_status()


REFUSED = {
    "list pools": (*PREFECT, "work-pool", "ls"),
    "deploy": (*DEPLOY, "-n", "refused", "-p", "default"),
    "serve": ("hello.py",),
    "worker": (*PREFECT, "worker", "start", "--pool", "default", "--name", "refused"),
    "events": (*PREFECT, "events", "stream"),
    "logs": (*PREFECT, "flow-run", "logs", str(uuid.uuid4())),
}


@pytest.fixture(scope="module", params=["no token", "bad token"])
def refused(request: pytest.FixtureRequest, clone: Clone, client: Client) -> str:
    """The client's lines, with everything but a good token."""
    if request.param == "no token":
        return client.lines + "unset PREFECT_CLIENT_CUSTOM_HEADERS\n"
    return clone.invoke("prefect.client-env", "--token", "none").stdout


@pytest.mark.parametrize("name", REFUSED)
def test_without_a_good_token_it_fails_with_401(client: Client, refused: str, name: str) -> None:
    with _ended(client.start(*REFUSED[name], lines=refused)) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert "401" in out
    assert client.api.get("/deployments/name/hello/refused").status_code == 404
