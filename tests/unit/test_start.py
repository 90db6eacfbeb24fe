"""What `./invoke` imports before a task runs: each import is time that every command takes."""

from __future__ import annotations

import subprocess
import sys

from .conftest import ROOT

_PROGRAM = "prefect_platform.cli.program"


def _imported(*words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-P", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


def test_the_list_of_tasks_needs_no_library_but_invoke() -> None:
    found = _imported("-m", _PROGRAM, "--list")
    assert "invoke.context" in found
    assert not found & {"asyncio", "docker", "httpx", "hvac", "jinja2", "jsonschema", "requests"}


def test_an_environment_is_opened_without_what_renders_it() -> None:
    assert not _imported("-c", "import prefect_platform.environment.opened") & {"jinja2", "httpx", "requests"}


def test_a_task_may_use_mocks() -> None:
    """The program keeps unittest.mock from Invoke alone."""
    start = f"import runpy, sys; sys.argv = ['invoke', '--version']; runpy.run_module({_PROGRAM!r}, run_name='__main__')"
    used = "from unittest.mock import Mock; assert Mock().anything(1)"
    assert "asyncio" in _imported("-c", f"try:\n    {start}\nexcept SystemExit:\n    pass\n{used}")
