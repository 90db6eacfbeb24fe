"""What the lab wants of the machine, and getting it where we can."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from prefect_platform.errors import PreflightError

from .commands import attempt
from .layout import CODE
from .machine import Say

_PROGRAMS = [
    "dockerd",
    "containerd",
    "docker",
    "runc",
    "iptables",
    "ip",
    "ssh",
    "ssh-keygen",
    "sshd",
    "debootstrap",
    "tini",
    "unshare",
    "useradd",
    "tar",
]
INSTALL = "lab/install-debian"


def be_root() -> None:
    if os.geteuid() != 0:
        raise PreflightError(
            "lab: needs root, to run a Docker engine and its network",
            "sudo ./invoke lab.up (it explains and installs what it needs)",
        )
    # Invoke may run with a user's PATH, which leaves these out on Debian.
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def provide(say: Say) -> None:
    """Install what is missing, on Debian. Raises PreflightError with the command to run elsewhere."""
    be_root()
    missing = lacking()
    if not missing:
        return
    say(
        f"the lab needs, and this machine lacks: {', '.join(missing)}; installing Debian packages by {INSTALL}"
    )
    if not shutil.which("apt-get"):
        raise PreflightError(
            f"lab: this machine lacks {', '.join(missing)}",
            "install them by your system's means: Docker engine, Compose 2.24+, buildx, OpenSSH server, debootstrap, iptables, tini",
        )
    sys.stdout.flush()
    code = subprocess.call([CODE / INSTALL], stdin=subprocess.DEVNULL, stdout=sys.stderr)
    if code or lacking():
        raise PreflightError(
            f"lab: {INSTALL} ended with {code}, still missing: {', '.join(lacking()) or 'nothing'}",
            f"run it by hand to see the error: {INSTALL}",
        )


def lacking() -> list[str]:
    missing = [name for name in _PROGRAMS if not shutil.which(name)]
    if "docker" not in missing:
        missing += [
            f"docker {name}" for name in ("compose", "buildx") if attempt(["docker", name, "version"])[0]
        ]
    if not Path(CODE / "lab" / "machine").exists():
        raise PreflightError(
            f"{CODE / 'lab'}: not there; the lab needs a clone; it is not part of the installed library",
            "clone the repository and run ./invoke lab.up in it",
        )
    return missing
