"""The stand-ins' ground: Debian as debootstrap makes it, from the mirror that this machine's apt uses."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from prefect_platform.errors import ApplyError

from . import mirrors
from .commands import WHEN_LOST, attempt, run
from .engine import docker, words
from .layout import Layout
from .machine import Say

SUITE = "trixie"
"""The release that the official images of Prefect, Postgres and Redis are made of: Postgres 17 and Redis 8 are in it."""
ATTEMPTS = 4
PAUSE = 5
"""Seconds between two of them."""
NAME = f"platform-lab-base:{SUITE}"


def found(layout: Layout) -> str:
    """The image's id, or an empty string."""
    code, out, _ = attempt(words(layout, "image", "inspect", "--format", "{{.Id}}", NAME))
    return "" if code else out.strip()


def provide(layout: Layout, say: Say) -> str:
    """Its id; created if missing."""
    if known := found(layout):
        return known
    mirror = mirrors.debian()
    say(f"making {NAME} with debootstrap; half a minute")
    folder = layout.cache / "base.new"
    try:
        bootstrap(folder, mirror, say)
        for rest in ("var/cache/apt", "var/lib/apt/lists", "var/log"):
            for file in (folder / rest).rglob("*"):
                if file.is_file():
                    file.unlink()
        _load(layout, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(_packages(folder), ignore_errors=True)
    return found(layout)


def bootstrap(folder: Path, mirror: str, say: Say) -> None:
    """Debian's smallest system in `folder`. A download that fails is tried again: debootstrap itself gives up at the first.

    Raises ApplyError with the last lines of debootstrap's output after the last attempt.
    """
    # In namespaces of its own: what an interrupted debootstrap has mounted is gone with it.
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    packages = _packages(folder)
    packages.mkdir(parents=True, exist_ok=True)
    options = ["--variant=minbase", "--include=ca-certificates", f"--cache-dir={packages}"]
    for left in reversed(range(ATTEMPTS)):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            run([*apart, "debootstrap", *options, SUITE, str(folder), mirror], timeout=900)
            return
        except ApplyError as error:
            if not left:
                raise
            say(f"debootstrap failed, once more in {PAUSE} s; {str(error).splitlines()[-1]}")
            time.sleep(PAUSE)


def _packages(folder: Path) -> Path:
    """What was downloaded already stays for the next attempt."""
    return folder.with_name(f"{folder.name}.packages")


def _load(layout: Layout, folder: Path) -> None:
    label = "LABEL prefect-platform.lab=base"
    with subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE) as tar:
        done = subprocess.run(
            words(layout, "import", "--change", label, "-", NAME),
            stdin=tar.stdout,
            capture_output=True,
            text=True,
        )
    if done.returncode or tar.returncode:
        docker(layout, "image", "rm", "--force", NAME)
        raise ApplyError(f"lab: {NAME} cannot be imported: {done.stderr.strip()}", WHEN_LOST)
