"""A real Prefect client elsewhere: its own environment and home, configured by `prefect.client-env` alone, through the gateway."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx

from tests.platforms import Reached

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

    def __init__(self, platform: Reached, token: str) -> None:
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
        with ended(self.start(*words)) as process:
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
        until(lambda: self.read("POST", "/task_runs/count", **tasks) == 1, "the task run was not recorded")
        until(
            lambda: f"hello from {name}" in self.run(*PREFECT, "flow-run", "logs", run["id"]), "no log line"
        )
        return str(run["id"])


def of_our_worker(root: Path) -> dict[str, str]:
    """Settings of a platform's own worker that are about how any client behaves, as it got them."""
    text = (root / ".state/local/stacks/prefect/worker.env").read_text()
    given = dict(line.split("=", 1) for line in text.splitlines() if line.startswith("PREFECT_"))
    kinds = ("PREFECT_CLIENT_", "PREFECT_FLOWS_", "PREFECT_TASKS_", "PREFECT_SERVER_ALLOW_")
    return {name: value for name, value in given.items() if name.startswith(kinds)}


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
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


def until(done: Callable[[], object], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@contextmanager
def new_client(platform: Reached, token: str) -> Iterator[Client]:
    """A client whose folder goes with it."""
    made = Client(platform, token)
    try:
        yield made
    finally:
        made.api.close()
        shutil.rmtree(made.folder)
