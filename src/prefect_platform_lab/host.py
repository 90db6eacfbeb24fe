"""The lab as its users take it: up, down, reboot, status."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect_platform.files import make_private

from . import engine, images, layout, machine, needs, network, ssh
from .machine import Say


@dataclass(frozen=True)
class LabHost:
    ssh_config: Path
    """`ssh -F` this."""
    host: str
    """The name in it for root."""
    deployer: str
    """The name in it for an account without root's rights that may use the engine."""
    docker_host: str
    """For DOCKER_HOST, here as well as in the ssh session."""
    data: Path
    """The state folder."""


def up(root: Path, say: Say, standins: Collection[str] | bool = True) -> LabHost:
    """Install what is missing, start the machine, provide the images. Raises PlatformError.

    `standins`: folders of lab/images, for those alone; with False the engine keeps the images that it has.
    """
    place = layout.of(root)
    needs.provide(say)
    with _guard(place, say):
        if machine.find(place) is None or machine.answers(place):
            say("starting the lab's machine: sshd and a Docker engine")
            machine.stop(place)
            machine.start(place, say)
        if standins:
            images.provide(place, say, () if standins is True else standins)
    return _host(place)


def down(root: Path, say: Say, everything: bool = False) -> None:
    """Remove containers, volumes and networks, stop the machine, put this machine's network back. `everything`: its images and keys too."""
    place = layout.of(root)
    if not place.state.exists():
        return
    needs.be_root()
    with _guard(place, say):
        if not everything and (machine.find(place) or place.data.exists()):
            if machine.find(place) is None or machine.answers(place):
                # What a killed machine left in its data root only an engine can take out.
                machine.stop(place)
                machine.start(place, say)
            engine.empty(place)
        machine.stop(place)
        network.clean(place, network.engine_runs())
        engine.remove_cgroups(place)
        shutil.rmtree(place.run, ignore_errors=True)
        shutil.rmtree(place.state / "machine", ignore_errors=True)
        if everything:
            shutil.rmtree(place.data)
            shutil.rmtree(place.state)


def reboot(root: Path, say: Say, suddenly: bool = True) -> LabHost:
    """Stop and start the machine as a VPS reboots: containers come back by their restart policies alone. `suddenly`: like a power cut."""
    place = layout.of(root)
    with _guard(place, say):
        machine.stop(place, suddenly)
        machine.start(place, say)
    return _host(place)


def status(root: Path) -> dict[str, Any]:
    """What runs; the keys are stable."""
    place = layout.of(root)
    running = machine.find(place)
    why = machine.answers(place) if running else "not running"
    return {
        "up": not why,
        "why": why,
        "pid": running.pid if running else None,
        "ssh_config": str(place.ssh_config),
        "host": ssh.HOST,
        "deployer": ssh.DEPLOYER,
        "port": ssh.port_of(place.ssh_config) or None,
        "docker_host": f"unix://{place.socket}",
        "state": str(place.state),
        "cache": str(place.cache),
        "images": [] if why else images.found(place),
        "containers": 0 if why else len(engine.containers(place)),
    }


def _host(place: layout.Layout) -> LabHost:
    return LabHost(place.ssh_config, ssh.HOST, ssh.DEPLOYER, f"unix://{place.socket}", place.state)


@contextlib.contextmanager
def _guard(place: layout.Layout, say: Say) -> Iterator[None]:
    """One up or down at a time. The guard file is outside of what `down` deletes."""
    make_private(place.state.parent)
    guard = os.open(place.state.parent / "lab-host.guard", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another lab.up or lab.down of this clone")
            fcntl.flock(guard, fcntl.LOCK_EX)
        yield
    finally:
        os.close(guard)
