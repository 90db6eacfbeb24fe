"""The lab's queries to its own engine."""

from __future__ import annotations

import os
import time
from pathlib import Path

from .commands import run
from .layout import Layout


def words(layout: Layout, *rest: str | Path) -> list[str]:
    """A docker command on the lab's engine; never on another that the environment names."""
    return ["docker", "--host", f"unix://{layout.socket}", *map(str, rest)]


def docker(layout: Layout, *rest: str | Path, timeout: float = 120) -> str:
    """Its output. Raises ApplyError."""
    return run(words(layout, *rest), timeout=timeout)


def containers(layout: Layout) -> list[str]:
    return docker(layout, "ps", "--all", "--quiet").split()


def empty(layout: Layout) -> None:
    """Remove all containers, volumes and networks, and leave a swarm: what is left is images."""
    if docker(layout, "info", "--format", "{{.Swarm.LocalNodeState}}").strip() not in ("", "inactive"):
        docker(layout, "swarm", "leave", "--force")
    if found := containers(layout):
        docker(layout, "rm", "--force", "--volumes", *found)
    if found := docker(layout, "volume", "ls", "--quiet").split():
        docker(layout, "volume", "rm", "--force", *found)
    networks = docker(layout, "network", "ls", "--format", "{{.ID}} {{.Name}}").splitlines()
    own = [line.split()[0] for line in networks if line.split()[1] not in ("bridge", "host", "none")]
    if own:
        docker(layout, "network", "rm", *own)


def remove_cgroups(layout: Layout) -> None:
    """Control groups outlive the processes that were in them."""
    for top in cgroups(layout):
        for folder, _, _ in os.walk(top, topdown=False):
            _remove_emptied(Path(folder))


def cgroups(layout: Layout) -> list[Path]:
    """The engine's, in the one hierarchy of version 2 or in each one of version 1."""
    return [top for pattern in ("", "*/") for top in Path("/sys/fs/cgroup").glob(f"{pattern}{layout.name}")]


def _remove_emptied(folder: Path) -> None:
    """A killed process leaves its group a moment after the one that was waited for."""
    until = time.monotonic() + 10
    while True:
        try:
            return folder.rmdir()
        except FileNotFoundError:
            return None
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
