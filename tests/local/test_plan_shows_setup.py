"""What `plan` shows is what `setup` does: nothing more, nothing less."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import USER, Clone

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]


@pytest.fixture
def fresh(platform: Clone) -> Iterator[Clone]:
    """A clone on which nothing was set up, beside one whose programs it shares: installing them once more would show nothing new."""
    folder = Path(tempfile.mkdtemp(prefix="platform-"))
    made = Clone(folder)
    runtime = made.root / ".state" / "runtime"
    runtime.parent.mkdir()
    subprocess.run(["cp", "-al", str(platform.root / ".state" / "runtime"), str(runtime)], check=True)
    if USER:
        shutil.chown(runtime.parent, USER)
    try:
        yield made
    finally:
        made.invoke("prefect.remove", "--yes", "--data", code=None)
        shutil.rmtree(folder, ignore_errors=True)


def _told(clone: Clone, command: str) -> set[str]:
    """`action subject` of every step."""
    found: dict[str, Any] = json.loads(clone.invoke(command, "--json").stdout)
    steps = {f"{step['action']} {step['subject']}" for step in found["steps"]}
    return steps | {each.partition(":")[0] for each in found["objects"]}


def test_a_first_setup_does_what_the_plan_showed(fresh: Clone) -> None:
    planned = _told(fresh, "prefect.plan")
    assert {
        "start prefect-server",
        "generate secret GATEWAY_SIGNING_KEYS",
        "create token platform/checks",
        "create work pool default",
        "create deployment platform-canary/canary",
    } <= planned
    assert not (fresh.root / ".state" / "local").exists()  # a plan touches nothing
    assert _told(fresh, "prefect.setup") == planned
    assert _told(fresh, "prefect.plan") == set()

    fresh.settings["prefect"]["work_pools"] = [
        {"name": "default"},
        {"name": "second", "concurrency_limit": 2},
    ]
    fresh.settings["prefect"]["global_concurrency_limits"] = [{"name": "db", "limit": 3}]
    fresh.settings["prefect"]["retention_days"] = 7
    fresh.settings["prefect"]["workers"] = [
        {"name": "default", "pool": "default"},
        {"name": "second", "pool": "second"},
    ]
    fresh.write()
    planned = _told(fresh, "prefect.plan")
    assert {"create work pool second", "create global limit db", "start prefect-worker-second"} <= planned
    assert "create deployment platform-canary/canary" not in planned  # it exists
    assert any(step.startswith("restart prefect-server") for step in planned)
    assert _told(fresh, "prefect.setup") == planned
