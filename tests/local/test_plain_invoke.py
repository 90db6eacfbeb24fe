"""The owner's command: a plain `invoke`, inside the clone or a folder of it, on a platform that runs."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import plain_invoke

from .conftest import Clone

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def program(clone: Clone) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        clone.invoke("--list")
        yield plain_invoke.make(Path(folder) / "venv", clone.root / ".venv")


@pytest.mark.parametrize("folder", [".", "stacks/prefect"])
def test_setup_status_and_help(platform: Clone, program: Path, tmp_path: Path, folder: str) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o777)
    there = platform.root / folder

    def plain(*words: str) -> subprocess.CompletedProcess[str]:
        return platform.invoke(*words, cwd=there, program=str(program), HOME=str(home))

    assert "nothing changed" in plain("prefect.setup").stderr
    status = plain("prefect.status").stdout
    assert "FAIL" not in status
    assert " canary " in status
    assert "--external-host=STRING" in plain("authentik.shared.create-proxy-app", "--help").stdout
