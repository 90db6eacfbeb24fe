"""Which folders `platform.state` may name: one of the platform's own, for it holds secrets and data and is changed freely."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

REPOSITORY = (
    *(".ci", "bench", "docs", "lab", "requirements", "src", "stacks", "tasks", "tests", "vault"),
    *(".git", ".venv", ".venv-dev"),
)
"""The folders of the clone that git tracks, git's own, and the Python environments."""


DEFAULT = ".state"


def wrong(root: Path, state: str) -> str:
    """What is wrong with the setting; empty if nothing is. Relative paths start at `root`, the clone."""
    if link := link_of_another(root / state, {0, os.geteuid()}):
        return f"{link} is a link that another user made"
    # Not Path.resolve: before Python 3.13 it raises RuntimeError for a symlink that leads to itself.
    folder, clone = Path(os.path.realpath(root / state)), Path(os.path.realpath(root))
    if folder == Path(folder.anchor):
        return f"{state!r} is the root folder of this machine"
    if folder == clone:
        return f"{state!r} is the clone itself"
    if clone.is_relative_to(folder):
        return f"{state!r} contains the clone"
    if folder.is_relative_to(clone) and folder.relative_to(clone).parts[0] in REPOSITORY:
        return f"{state!r} belongs to the repository"
    existing = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    return "" if os.path.isdir(existing) else f"{existing} is not a folder"


def link_of_another(place: Path, trusted: Collection[int]) -> str:
    """A symbolic link on the way to the folder that none of these users made, who could lead us elsewhere at any time; empty without."""
    path = Path(os.path.abspath(place))
    for each in (path, *path.parents):
        if each.is_symlink() and each.lstat().st_uid not in trusted:
            return str(each)
    return ""
