"""Installs a hashed lock into a new environment: with uv where it can be had, with pip everywhere else.

Standard library only, like `venvs`. uv is the version that a lock pins: beside the running interpreter, or fetched by pip, which checks
its hash. It only makes things faster: whatever stops it and would not stop pip leaves the work to pip.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect_platform.venvs import index_settings
from prefect_platform.venvs.pip_install import Progress, StepFailed, clean_environ, run

_PACKAGE = re.compile(r"^[A-Za-z0-9][^=\s]*==.*", re.MULTILINE)
_UV = re.compile(r"^uv==(\S+).*(?:\n    --hash=.*)+", re.MULTILINE)
_STOPS_PIP_TOO = re.compile(r"error sending request|timed out|Hash mismatch|No space left")
_HASHED_WHEELS = ("--require-hashes", "--only-binary", ":all:")
_PIP_INSTALL = ("-I", "-m", "pip", "install", "--progress-bar", "off", "--no-input", *_HASHED_WHEELS)
_UV_INSTALL = (
    *("pip", "install", "--no-config", "--no-progress", *_HASHED_WHEELS),
    # A hard link would carry a change in one environment (a flow writing into its packages) through the cache into all others, and
    # `clone` falls back to hard links (uv 0.13.9). A copy is a reflink where the file system has them.
    *("--link-mode", "copy"),
    # Processes that may not write into the environment would else compile at every start.
    "--compile-bytecode",
    # As pip does: the best version of all indexes, not of the first that has the package. The hashes say which files may be installed.
    *("--index-strategy", "unsafe-best-match"),
)


@dataclass(frozen=True)
class Build:
    """An environment being created in the folder `new` from the interpreter `base`."""

    new: Path
    base: str
    lock_file: Path
    progress: Progress
    guard: int

    @property
    def python(self) -> str:
        return str(self.new / "bin" / "python")

    @property
    def scratch(self) -> Path:
        """Deleted when everything is installed."""
        return self.new / ".uv"

    def run(self, argv: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        run(argv, self.progress, self.guard, environ)


def make(build: Build) -> None:
    """Create the environment and install the lock into it. Raises StepFailed."""
    lock = build.lock_file.read_text()
    _make_empty(build)
    if not _install_with_uv(build, lock):
        _install_with_pip(build, lock)
    shutil.rmtree(build.scratch, ignore_errors=True)


def count_packages(lock: str) -> int:
    """How many packages of a universal lock this system gets, roughly: entries for Windows only are left out."""
    return sum("win32" not in entry for entry in _PACKAGE.findall(lock))


def _make_empty(build: Build) -> None:
    build.progress.phase("creating the environment")
    build.run([build.base, "-I", "-m", "venv", "--clear", str(build.new)])


def _install_with_pip(build: Build, lock: str) -> None:
    build.progress.collect(count_packages(lock))
    # The lock once more as constraints: where one package wants another with an extra, pip 23 else looks at the newest
    # version first, which the lock has no hash for, and gives up.
    build.run([build.python, *_PIP_INSTALL, "-r", str(build.lock_file), "-c", str(build.lock_file)])


def _install_with_uv(build: Build, lock: str) -> bool:
    """False if nothing was installed, or nothing but uv."""
    uv = _find_uv(build, lock)
    pip = _pip_settings(build) if uv else {}
    settings = index_settings.for_uv(pip, os.environ)
    if not uv or not settings:
        return False
    words = [str(uv), *_UV_INSTALL, *settings.options]
    if not index_settings.may_cache(pip, os.environ):
        words += ["--cache-dir", str(build.scratch / "cache")]
    build.progress.phase("collecting packages")
    try:
        build.run([*words, "--python", build.python, "-r", str(build.lock_file)], settings.environ)
    except StepFailed as error:
        if _STOPS_PIP_TOO.search(error.message):
            raise
        build.progress.phase("uv failed; starting over with pip")
        _make_empty(build)
        return False
    return True


def _find_uv(build: Build, lock: str) -> Path | None:
    """The uv that the lock pins, or the operator's lock beside it; None where it has no wheel for this system."""
    in_lock = _UV.search(lock)
    pinned = in_lock or _UV.search(_operator_lock(build.lock_file))
    if not pinned:
        return None
    beside = Path(sys.prefix, "bin", "uv")
    if _version(beside) == pinned[1]:
        return beside
    build.scratch.mkdir()
    entry = build.scratch / "lock.txt"
    entry.write_text(pinned[0].rstrip(" \\") + "\n")
    # A part of the environment if its lock has it; else deleted with the folder.
    where = [] if in_lock else ["--no-compile", "--target", str(build.scratch)]
    build.progress.phase("fetching uv, which installs the rest")
    try:
        build.run([build.python, *_PIP_INSTALL, "--no-deps", *where, "-r", str(entry)])
    except StepFailed as error:
        if "No matching distribution" in error.message:
            return None
        raise
    fetched = (build.new if in_lock else build.scratch) / "bin" / "uv"
    return fetched if _version(fetched) == pinned[1] else None


def _operator_lock(lock_file: Path) -> str:
    try:
        return (lock_file.parent / "operator.txt").read_text()
    except OSError:
        return ""


def _pip_settings(build: Build) -> dict[str, str]:
    """pip itself knows which of its files and variables count."""
    return index_settings.read(_output([build.python, "-I", "-m", "pip", "config", "list"]))


def _version(uv: Path) -> str:
    """Empty if it does not run here."""
    return "".join(_output([str(uv), "--version"]).split()[1:2])


def _output(argv: Sequence[str]) -> str:
    """What it prints; nothing if it fails or does not run."""
    try:
        done = subprocess.run(
            argv, env=clean_environ(), stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
