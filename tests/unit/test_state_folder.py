"""The state folder is the platform's own: what else it could be would be overwritten, or put into commits."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from prefect_platform.config import state_folder
from prefect_platform.errors import ConfigError

from .conftest import ROOT, Load


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (".", "is the clone itself"),
        ("./", "is the clone itself"),
        ("src/..", "is the clone itself"),
        ("..", "contains the clone"),
        ("src", "belongs to the repository"),
        ("./src/", "belongs to the repository"),
        ("src/deeper/new", "belongs to the repository"),
        ("stacks/../tasks", "belongs to the repository"),
        (".git", "belongs to the repository"),
        (".venv", "belongs to the repository"),
        ("requirements", "belongs to the repository"),
        ("/", "is the root folder"),
        ("/etc/..", "is the root folder"),
        ("/etc/passwd", "/etc/passwd is not a folder"),
        ("/etc/passwd/below", "/etc/passwd is not a folder"),
        ("/dev/null", "/dev/null is not a folder"),
        ("loop", "is not a folder"),
        ("link", "belongs to the repository"),
    ],
)
@pytest.mark.parametrize("env", ["local", "a"])
def test_a_folder_of_others_is_refused(load: Load, tmp_path: Path, state: str, says: str, env: str) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to("src")
    (tmp_path / "invoke.yaml").write_text(f"platform:\n  state: {state}\n  environments: {{a: {{}}}}\n")
    with pytest.raises(ConfigError) as caught:
        load({"state": state, "environments": {"a": {}}}, env=env)
    assert caught.value.reason.startswith("invoke.yaml:2: platform.state: ")
    assert says in caught.value.reason
    assert ".state" in caught.value.hint


@pytest.mark.parametrize("state", [".state", "mine", "../elsewhere", "/var/lib/platform", ".state/deeper"])
def test_an_own_folder_is_taken(load: Load, state: str) -> None:
    assert load({"state": state}).values["state"] == state


def test_every_part_of_the_repository_is_known() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    folders = {Path(line).parts[0] for line in tracked.stdout.splitlines() if "/" in line}
    assert folders - set(state_folder.REPOSITORY) == set()
