"""Whatever the umask (the tests' is 000), no other user of the machine can write what we make, or read what is below `.state`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Clone

pytestmark = pytest.mark.timeout(300)


def _below(folder: Path) -> Iterator[tuple[str, int]]:
    """(path, mode) of the folder and all that is in it, links left out."""
    for at, folders, files in os.walk(folder):
        for place in (at, *(os.path.join(at, name) for name in (*folders, *files))):
            mode = os.lstat(place).st_mode
            if not stat.S_ISLNK(mode):
                yield place, mode


@pytest.mark.parametrize("name", [".state", ".venv"])
def test_nobody_else_can_write_what_was_made(platform: Clone, name: str) -> None:
    found = dict(_below(platform.root / name))
    assert len(found) > 100
    assert not [place for place, mode in found.items() if mode & 0o022]


def test_nobody_else_can_look_into_the_state(platform: Clone) -> None:
    """The folder is closed, and so is each file in it (Prefect's UI left out): a lost mode of the folder opens nothing."""
    state = platform.root / ".state"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for name in ("data", "logs", "run", "secrets", "stacks"):
        open_to = [place for place, mode in _below(platform.state / name) if mode & 0o077]
        assert not [place for place in open_to if "/data/prefect/ui" not in place], name


def test_a_state_that_an_earlier_version_left_open_is_closed(platform: Clone) -> None:
    for folder in (platform.root / ".state", platform.state):
        folder.chmod(0o777)
    platform.invoke("gateway.create-token", "--project", "tests", "--service", "modes")
    platform.invoke("prefect.setup")
    for folder in (platform.root / ".state", platform.state):
        assert not folder.stat().st_mode & 0o022, folder
