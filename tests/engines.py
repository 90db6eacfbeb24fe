"""Data roots for the Docker engines of the tests, with the stand-in images in them.

Building takes minutes, so the groups of one run build once, into a root that stays between runs; each engine gets a copy of its own, for two
engines must not share one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import prefect_platform_lab
from prefect_platform_lab import LabHost
from prefect_platform_lab.images import PYTHON, STANDINS
from prefect_platform_lab.layout import CACHE_VARIABLE

ROOT = Path(__file__).resolve().parents[1]


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def host_with_images(root: Path) -> Iterator[LabHost]:
    """A lab at `root` with all images, up; at the end it is down. Fails, with the command to run, where a lab cannot be."""
    shared = Path(os.environ.get(CACHE_VARIABLE) or ROOT / ".state" / "lab-test-cache").resolve()
    # Beside the shared one: hard links need the same file system.
    own = shared.with_name(f"{shared.name}-{os.getpid()}")
    with pytest.MonkeyPatch.context() as patch:
        try:
            with _locked(shared.with_name(f"{shared.name}.lock")):
                patch.setenv(CACHE_VARIABLE, str(shared))
                _build(shared)
                _copy(shared, own)
            patch.setenv(CACHE_VARIABLE, str(own))
            yield prefect_platform_lab.up(root, say)
        finally:
            patch.setenv(CACHE_VARIABLE, str(own))
            with _undisturbed():
                prefect_platform_lab.down(root, say)
                shutil.rmtree(own, ignore_errors=True)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C would leave an engine behind whose data root nobody knows any more."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(cache: Path) -> None:
    """Bring the images up to date, unless this has been done for the same sources."""
    sources = hashlib.sha256("".join(image.source("") for image in (PYTHON, *STANDINS)).encode()).hexdigest()
    done = cache / "built-from"
    if done.exists() and done.read_text() == sources:
        return
    root = cache / "builder"
    try:
        prefect_platform_lab.up(root, say)
    finally:
        prefect_platform_lab.down(root, say)
    done.write_text(sources)


def _copy(cache: Path, to: Path) -> None:
    """Images only. The files of layers are never written to, so hard links do; what names them is copied."""
    (to / "docker").mkdir(parents=True, mode=0o700)
    for name, how in (("image", "-a"), ("overlay2", "-al")):
        subprocess.run(["cp", how, str(cache / "docker" / name), str(to / "docker")], check=True)
