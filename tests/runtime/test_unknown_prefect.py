"""On a Prefect version that has not been tested the launchers start the stock commands, and say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from .conftest import STACK, Platform, Process, runtime_python, wait_for

# The installed Prefect under another version number, then the launcher as the main program.
PRETEND = """
import prefect, runpy, sys
prefect.__version__ = "99.0.0"
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start(platform: Platform, program: str, *options: str) -> Process:
    command = [runtime_python(), "-c", PRETEND, str(STACK / program), *options]
    file = platform.folder / f"{program}.json"
    environment = {"PYTHONPATH": str(STACK), "PREFECT_API_URL": platform.url, "PLATFORM_LAUNCHED": str(file)}
    return platform.run(program, command, **environment)


def said(platform: Platform, program: str) -> dict[str, Any]:
    """What it wrote for `status`."""
    return dict(json.loads((platform.folder / f"{program}.json").read_text()))


def test_an_unknown_version_starts_the_stock_commands(platform: Platform, template: Path) -> None:
    server = start(platform, "server.py", "--port", str(platform.port), "--template", str(template))
    wait_for(lambda: platform.healthy(server), "the server's health")
    assert "Prefect 99.0.0 is not one of the tested versions" in server.output()
    assert "Check out the dashboard" in server.output()
    pools = f"{platform.url}/work_pools/?secret=in-no-log"
    httpx.post(pools, json={"name": "tests", "type": "process"}).raise_for_status()
    worker = start(platform, "worker.py", "--pool", "tests", "--name", "stock", "--queue", "default")
    wait_for(lambda: "Worker 'stock' started!" in worker.output(), "the stock worker")
    assert "starting stock `prefect worker start`" in worker.output()
    assert "in-no-log" not in server.output()
    for program in ("server.py", "worker.py"):
        found = said(platform, program)
        assert found["version"] == "99.0.0"
        assert found["without"] == "Prefect 99.0.0 is not one of the tested versions (3.8.8)"
    assert "graceful stop" in said(platform, "server.py")["mends"]
    assert said(platform, "worker.py")["mends"] == ["drain at a stop"]
