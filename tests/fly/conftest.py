"""A lab of its own for the folder, beside that of tests/lab."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prefect_platform_lab import LabHost
from prefect_platform_lab.standins import flyctl
from tests.engines import host_with_images
from tests.lab.conftest import Docker, docker_of

from .app import Fly

ROOT = Path(__file__).resolve().parents[2]
Launch = Callable[..., Fly]


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHost]:
    with host_with_images(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="session")
def docker(host: LabHost) -> Docker:
    return docker_of(host)


@pytest.fixture(scope="session")
def launch(host: LabHost, docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """Makes apps, of which nothing is left at the end."""

    made: list[Fly] = []

    def launch(app: str, **fly: object) -> Fly:
        each = Fly(tmp_path_factory.mktemp("fly"), host, app, **fly)
        if made and (made[0].root / ".venv").exists():
            # Alike, and made in a quarter of a minute.
            (each.root / ".venv").symlink_to(made[0].root / ".venv")
        made.append(each)
        return each

    try:
        yield launch
    finally:
        label = f"label={flyctl.LABEL}"
        for kind in ("container", "volume", "image", "network"):
            words = ["ls", "-q", *(["-a"] if kind == "container" else []), "--filter", label]
            if found := docker(kind, *words).split():
                docker(kind, "rm", *(["-f"] if kind != "network" else []), *set(found), code=None)
