"""The owner's command: a plain `invoke`, inside the clone or a folder of it, on a platform that runs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import plain_invoke

from .conftest import Clone


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
    where = {"cwd": platform.root / folder, "program": program}
    again = platform.invoke("prefect.setup", HOME=str(home), **where)
    assert "nothing changed" in again.stderr
    status = platform.invoke("prefect.status", HOME=str(home), **where)
    assert "FAIL" not in status.stdout
    assert " canary " in status.stdout
    shown = platform.invoke("authentik.shared.create-proxy-app", "--help", HOME=str(home), **where)
    assert "--external-host=STRING" in shown.stdout
