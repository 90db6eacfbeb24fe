"""No module of ours has the name of one of Python's or of a package in the locks: whatever folder is on the path, nothing is shadowed."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from .conftest import ROOT

FOLDERS = ("src", "tasks", "stacks", "vault", "bench", "lab")
LOCKS = ("operator", "runtime", "dev")
ENTRY_POINTS = {"__init__", "__main__"}


def _locked() -> set[str]:
    """Names of the packages in the three locks, as PEP 503 spells them."""
    texts = [(ROOT / "requirements" / f"{name}.txt").read_text() for name in LOCKS]
    return {
        _spelled(name)
        for text in texts
        for name in re.findall(r"^([A-Za-z0-9][\w.-]*)==", text, re.MULTILINE)
    }


def _spelled(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def taken() -> set[str]:
    """Top-level names of the standard library and of every package in the locks; the developers' environment has them all."""
    locked = _locked()
    theirs = {
        name
        for name, owners in importlib.metadata.packages_distributions().items()
        if locked & {_spelled(owner) for owner in owners}
    }
    return theirs | set(sys.stdlib_module_names)


def shadows(folders: Iterator[Path]) -> list[str]:
    """The module files whose bare name is taken.

    Folders are not looked at: `targets/docker` and `provisioning/prefect` are named by the design, and a package can only pass for
    another when the folder that holds it is on the path. Python puts the folder of a *file* there, of the script it runs.
    """
    names = taken()
    found = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return [str(path) for path in found if path.stem in names - ENTRY_POINTS]


def test_nothing_of_ours_shadows_anything() -> None:
    assert shadows(ROOT / name for name in FOLDERS) == []


def test_what_would_shadow_is_found(tmp_path: Path) -> None:
    for name in ("platform", "yaml", "build", "httpx", "ours"):
        (tmp_path / f"{name}.py").touch()
    assert {Path(path).stem for path in shadows(iter([tmp_path]))} == {"platform", "yaml", "build", "httpx"}
