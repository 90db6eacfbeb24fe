"""Starting things and waiting for their first answer: the platform under its supervisor, and a stock Prefect server."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench.report import Row, at_most, at_most_ratio
from tests.local.conftest import USER, Clone, free_ports

AS_USER: dict[str, Any] = {"user": USER, "group": "nogroup", "extra_groups": []} if USER else {}
"""For subprocesses: the user that the platform runs as runs everything that is compared with it."""


@dataclass
class Times:
    """Seconds from nothing running to the first good answer, and how often the first answer was not good."""

    fresh: list[float] = field(default_factory=list)
    existing: list[float] = field(default_factory=list)
    refused: int = 0


def cold_starts(clone: Clone, python: Path, folder: Path, token: str, runs: int) -> list[Row]:
    """On a fresh and on an existing database, ours and stock in turn."""
    ours, stock = Times(), Times()
    for number in range(runs):
        clone.invoke("prefect.stop")
        data = clone.root / ".state" / "local" / "data" / "prefect"
        shutil.rmtree(data)
        own_folder(data)
        for times in (ours.fresh, ours.existing):
            clone.invoke("prefect.stop")
            seconds, first = _start_ours(clone, python, token)
            times.append(seconds)
            ours.refused += first != 200
        for times in (stock.fresh, stock.existing):
            began = time.monotonic()
            with stock_server(python, folder / f"stock-{number}"):
                times.append(time.monotonic() - began)
    median = statistics.median
    return [
        at_most_ratio("cold start, fresh database (s)", median(ours.fresh), median(stock.fresh), 0.5),
        at_most_ratio(
            "cold start, existing database (s)", median(ours.existing), median(stock.existing), 1.2
        ),
        at_most(f"first request after `/ping` answered 200 not 200 itself (of {2 * runs})", ours.refused, 0),
    ]


def _start_ours(clone: Clone, python: Path, token: str) -> tuple[float, int]:
    """Seconds to the first 200 of the API, and the status of the first request after /ping was 200."""
    state = clone.root / ".state" / "local"
    command = [str(python), "-m", "supervisor.supervisord", "-c", str(state / "run" / "supervisord.conf")]
    env = {"PATH": os.environ["PATH"], "HOME": str(clone.home)}
    began = time.monotonic()
    subprocess.run(command, env=env, cwd=clone.home, check=True, **AS_USER)
    with httpx.Client(base_url=clone.url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        until(lambda: client.get("/ping").status_code == 200)
        first = client.get("/prefect/api/health").status_code
        until(lambda: client.get("/prefect/api/health").status_code == 200)
    return time.monotonic() - began, first


@contextlib.contextmanager
def stock_server(python: Path, home: Path) -> Iterator[str]:
    """A plain `prefect server start`, ready; its API's URL."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/api"
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    command = [str(python), "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    own_folder(home)
    null = subprocess.DEVNULL
    process = subprocess.Popen(command, env=env, cwd=home, stdout=null, stderr=null, **AS_USER)
    try:
        with httpx.Client(timeout=5) as client:
            until(lambda: client.get(f"{url}/health").status_code == 200)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def own_folder(path: Path) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    if USER:
        shutil.chown(path, USER)


def until(done: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if done():
                return
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)
