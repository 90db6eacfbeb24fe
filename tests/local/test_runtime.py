"""A flow cannot put another Prefect in the place of the server's: pip refuses, and what was changed nevertheless is shown and taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prefect_platform.venvs import installed

from .conftest import Clone

pytestmark = [pytest.mark.timeout(420), pytest.mark.slow]

STEP = """
import asyncio
from prefect.deployments.steps.utility import pip_install_requirements
asyncio.run(pip_install_requirements(directory={folder!r}, requirements_file="wanted.txt"))
"""


def _runtime(platform: Clone) -> Path:
    (python,) = (platform.root / ".state" / "runtime").glob("*/bin/python")
    return python.parent.parent


def _plan(platform: Clone) -> dict[str, str]:
    """`action subject` → cause."""
    found = json.loads(platform.invoke("prefect.plan", "--json").stdout)
    return {f"{step['action']} {step['subject']}": step["cause"] for step in found["steps"]}


def _line(platform: Clone, name: str) -> tuple[bool, str]:
    (found,) = (each for each in platform.status()["checks"] if each["name"] == name)
    return found["ok"], found["detail"]


def test_prefect_s_own_install_step_is_refused(platform: Clone) -> None:
    (platform.home / "wanted.txt").write_text("prefect==3.9.1\n")
    words = ["-c", STEP.format(folder=str(platform.home))]
    done = platform.invoke(*words, code=None, program=str(_runtime(platform) / "bin" / "python"))
    assert done.returncode
    assert "this environment is the platform's own" in done.stdout + done.stderr
    assert _plan(platform) == {}


def test_each_process_says_which_prefect_it_is_and_what_is_added(platform: Clone) -> None:
    assert "Prefect 3.8.8 with SQLite's write queue, graceful stop" in _line(platform, "prefect-server")[1]
    assert "Prefect 3.8.8 with drain at a stop" in _line(platform, "prefect-worker")[1]
    assert _line(platform, "runtime") == (True, "as it was installed")


def test_a_runtime_that_differs_is_red_planned_and_made_again(platform: Clone) -> None:
    """As uv, or pip by another road, would leave it."""
    runtime, before = _runtime(platform), platform.pids()
    installed.unseal(runtime)
    (metadata,) = runtime.glob("lib/python*/site-packages/prefect-3.8.8.dist-info")
    metadata.rename(metadata.with_name("prefect-3.9.1.dist-info"))
    ok, said = _line(platform, "runtime")
    assert not ok
    assert said.startswith("prefect 3.9.1 instead of 3.8.8")
    planned = _plan(platform)
    assert planned["install runtime"] == "not as it was installed: prefect 3.9.1 instead of 3.8.8"
    assert planned["prepare database template"]
    services = {f"restart {name}": "its runtime is made again" for name in before}
    assert services.items() <= planned.items()
    platform.invoke("prefect.setup")
    after = platform.pids()
    assert after.keys() == before.keys()
    assert not {*after.values()} & {*before.values()}
    assert _plan(platform) == {}
    assert platform.status()["healthy"]
