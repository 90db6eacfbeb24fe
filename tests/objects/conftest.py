"""One real Prefect server, one real gateway stand-in in front of it and one real worker, for all tests here."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform.config.objects import Canary, Desired, Pool
from prefect_platform.provisioning.prefect.api import ApiError, PrefectApi
from prefect_platform.provisioning.prefect.objects import apply_changes, observe, plan_objects

from .door import Door

ROOT = Path(__file__).parents[2]
# Prefect runs here; this process needs none of it.
PYTHON = os.environ.get("PLATFORM_TEST_PYTHON", sys.executable)
WORKED = "worked"

FLOWS = """
from prefect import flow, task

@task
def step():
    return 1

@flow
def broken():
    step()
    raise ValueError("the well is dry")

@flow
def taskless():
    return 1
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def prefect_environ(home: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    return {
        **kept,
        "PREFECT_HOME": str(home),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Prefect server under /prefect, as our stack sets it up."""
    home, port = tmp_path_factory.mktemp("server"), free_port()
    settings = {
        "PREFECT_SERVER_API_BASE_PATH": "/prefect/api",
        "PREFECT_SERVER_UI_SERVE_BASE": "/prefect",
        "PREFECT_SERVER_UI_API_URL": "/prefect/api",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
        "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "4",
        "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S",
        # So seldom that a test sees what the server looks like when this service does not run.
        "PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "3600",
    }
    # Stock Prefect answers 503, or not at all, when many write to its SQLite at once on a busy machine.
    launcher = str(ROOT / "stacks" / "prefect" / "server.py")
    command = [PYTHON, launcher, "--host", "127.0.0.1", "--port", str(port)]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=prefect_environ(home) | settings, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait_ready(process, f"http://127.0.0.1:{port}", home / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process)


def wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    with PrefectApi(f"{url}/prefect/api", retry_seconds=0) as api:
        for _ in range(450):
            try:
                return api.ready()
            except ApiError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="session")
def api(server: str) -> Iterator[PrefectApi]:
    with PrefectApi(f"{server}/prefect/api") as client:
        yield client


@pytest.fixture(scope="session")
def door(server: str) -> Iterator[Door]:
    with Door(server, token="right-token") as running:
        yield running


@pytest.fixture(scope="session")
def flows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flows")
    shutil.copy(ROOT / "stacks/prefect/canary.py", folder)
    (folder / "flows.py").write_text(FLOWS)
    return folder


@pytest.fixture(scope="session")
def worker(
    api: PrefectApi, door: Door, flows: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A worker named `w1` of pool `worked`, which also holds the deployment platform-canary/canary."""
    canary = Canary(WORKED, str(flows), "canary.py:platform_canary")
    wanted = Desired(pools=(Pool(WORKED),), canary=canary)
    apply_changes(api, plan_objects(wanted, observe(api, wanted)))
    home = tmp_path_factory.mktemp("worker")
    settings = {
        "PREFECT_API_URL": f"{door.url}/prefect/api",
        "PREFECT_CLIENT_CUSTOM_HEADERS": '{"Authorization": "Bearer %s"}' % door.token,  # noqa: UP031
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    command = [
        PYTHON,
        "-m",
        "prefect",
        "worker",
        "start",
        "--type",
        "process",
        "--pool",
        WORKED,
        "--name",
        "w1",
    ]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=prefect_environ(home) | settings, cwd=home, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield "w1"
    finally:
        stop(process)
