"""What the lab asks of its own engine."""

from __future__ import annotations

import os
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
    for top in Path("/sys/fs/cgroup").glob(f"**/{layout.name}"):
        for folder, _, _ in os.walk(top, topdown=False):
            Path(folder).rmdir()
