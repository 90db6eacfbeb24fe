"""What was installed into an environment that flows share with servers: written down at its making, closed to writers, compared later.

`<venv>/.installed` has two lines of JSON: folder → modification time, and file → [size, modification time, SHA-256]. Byte code and what
stands directly in the environment's folder do not count. Standard library only, like `venvs`.
"""

from __future__ import annotations

import compileall
import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

_RECORD = ".installed"
_COMPILED = "__pycache__"
_DIST = re.compile(r"([^/]+)-([^/-]+)\.dist-info")
_NO_PIP = '''\
"""Stands where pip was: who installs into this environment changes the Prefect that serves and the one that every flow runs on."""

import sys

sys.exit(
    "pip: this environment is the platform's own, shared by its server and all flows: nothing may be installed into it.\\n"
    "hint: run the flow where its packages are: by serve() or by a worker of an environment of yours (README, 'Your packages')"
)
'''


def seal(venv: Path) -> None:
    """Replace pip by a refusal, take every right to write away, and write down what is there. Root may write nevertheless."""
    _without_pip(venv)
    folders: dict[str, int] = {}
    files: dict[str, tuple[int, int, str]] = {}
    for folder, names in _walk(venv):
        for name in names:
            file = os.path.join(folder, name)
            seen = os.lstat(file)
            if stat.S_ISREG(seen.st_mode):
                os.chmod(file, seen.st_mode & 0o555)
            files[os.path.relpath(file, venv)] = (seen.st_size, seen.st_mtime_ns, _digest(file))
        compiled = os.path.join(folder, _COMPILED)
        if os.path.isdir(compiled):
            os.chmod(compiled, 0o555)
        os.chmod(folder, 0o555)
        folders[os.path.relpath(folder, venv)] = os.lstat(folder).st_mtime_ns
    (venv / _RECORD).write_text(f"{json.dumps(folders)}\n{json.dumps(files)}\n")


def unseal(venv: Path) -> None:
    """Give its owner the rights back that are needed to delete it."""
    for folder, _, _ in os.walk(venv):
        with contextlib.suppress(OSError):
            os.chmod(folder, 0o700)


def recorded(venv: Path) -> bool:
    """Whether it is known what was installed: environments of earlier versions have no record."""
    return (venv / _RECORD).is_file()


def difference(venv: Path, *, every_file: bool) -> str:
    """What is not as it was installed, in words; empty when nothing is, or nothing is known.

    Installing, upgrading and removing change a folder, and there are few of them. `every_file`: one written in place is found too.
    Contents are read only where times or sizes differ.
    """
    try:
        lines = (venv / _RECORD).read_text().splitlines()
        folders: dict[str, int] = json.loads(lines[0])
        if not every_file and all(_modified(venv / name) == when for name, when in folders.items()):
            return ""
        files: dict[str, list[object]] = json.loads(lines[1])
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, IndexError):
        return f"{venv / _RECORD} is corrupt"
    return _described(files, _changed(venv, files))


def _changed(venv: Path, files: dict[str, list[object]]) -> dict[str, bool]:
    """File → whether it is there, of those that differ."""
    changed = dict.fromkeys(files, False)
    for folder, names in _walk(venv):
        for name in names:
            file = os.path.join(folder, name)
            path, seen = os.path.relpath(file, venv), os.lstat(file)
            known = files.get(path)
            if known and (known[:2] == [seen.st_size, seen.st_mtime_ns] or known[2] == _digest(file)):
                del changed[path]
            else:
                changed[path] = True
    return changed


def _described(files: dict[str, list[object]], changed: dict[str, bool]) -> str:
    if not changed:
        return ""
    before = _versions(files)
    there = _versions(
        [*(name for name in files if changed.get(name, True)), *(n for n in changed if changed[n])]
    )
    news = []
    for name in sorted({*before, *there}):
        was, now = before.get(name, ""), there.get(name, "")
        if was != now:
            news.append(
                f"{name} {now} instead of {was}"
                if was and now
                else f"{name} {'is gone' if was else now + ' was added'}"
            )
    # Prefect first: it is what the rest is for.
    news.sort(key=lambda text: not text.startswith("prefect "))
    shown = [*news[:3], *([f"{len(news) - 3} more packages"] if len(news) > 3 else [])]
    return ", ".join(shown) or f"{len(changed)} files changed: {', '.join(sorted(changed)[:3])}"


def _versions(files: object) -> dict[str, str]:
    """Package → version, by the folders of their metadata."""
    found: dict[str, set[str]] = {}
    for path in files:  # type: ignore[attr-defined]
        if match := _DIST.search(os.path.dirname(path)):
            found.setdefault(match[1].lower().replace("_", "-"), set()).add(match[2])
    return {name: " and ".join(sorted(versions)) for name, versions in found.items()}


def _walk(venv: Path) -> Iterator[tuple[str, list[str]]]:
    """(folder, names of its files) below the environment's own folder, children before parents."""
    with os.scandir(venv) as entries:
        tops = sorted(
            each.path for each in entries if each.is_dir(follow_symlinks=False) and each.name[0] != "."
        )
    for top in tops:
        for folder, _, names in os.walk(top, topdown=False):
            if os.path.basename(folder) != _COMPILED:
                yield folder, [name for name in names if not name.endswith(".pyc")]


def _modified(path: Path) -> int:
    try:
        return os.lstat(path).st_mtime_ns
    except OSError:
        return -1


def _digest(file: str) -> str:
    """Of its contents; a link's are where it leads."""
    if os.path.islink(file):
        return os.readlink(file)
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _without_pip(venv: Path) -> None:
    site = venv / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    for gone in [*site.glob("pip"), *site.glob("pip-*.dist-info")]:
        shutil.rmtree(gone)
    for script in (venv / "bin").glob("pip*"):
        script.unlink()
    (site / "pip").mkdir()
    (site / "pip" / "__init__.py").touch()
    (site / "pip" / "__main__.py").write_text(_NO_PIP)
    # Else root's first call would write the byte code, and change the folder.
    compileall.compile_dir(site / "pip", quiet=2)
