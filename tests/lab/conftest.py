"""One lab for all tests of a run in this folder, beside whatever lab the clone has."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prefect_platform_lab import LabHost
from tests.engines import host_with_images, say

from .vps import Vps, all_well

__all__ = ["say"]
ROOT = Path(__file__).resolve().parents[2]
Docker = Callable[..., str]


def call(*words: str | Path, code: int | None = 0, stdin: str | None = None) -> str:
    """Output and errors of a command, which must end with `code` (None: any)."""
    done = subprocess.run(
        [str(word) for word in words],
        input=stdin or "",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
    )
    assert code in (None, done.returncode), f"{words} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def docker_of(host: LabHost) -> Docker:
    def docker(*words: str | Path, code: int | None = 0, stdin: str | None = None) -> str:
        return call("docker", "--host", host.docker_host, *words, code=code, stdin=stdin)

    return docker


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def host(root: Path) -> Iterator[LabHost]:
    with host_with_images(root) as made:
        yield made


@pytest.fixture(scope="session")
def docker(host: LabHost) -> Docker:
    return docker_of(host)


@pytest.fixture(scope="session")
def ssh(host: LabHost) -> Callable[..., str]:
    def ssh(*words: str, login: str = host.host, code: int = 0) -> str:
        return call("ssh", "-F", host.ssh_config, login, *words, code=code)

    return ssh


@pytest.fixture
def name(docker: Docker, request: pytest.FixtureRequest) -> Iterator[str]:
    """A name for a container, a volume and a network of one test; they are gone after it."""
    made = f"test-{abs(hash(request.node.name)) % 10**8}"
    yield made
    for container in docker("ps", "-aq", "--filter", f"name={made}").split():
        docker("rm", "--force", "--volumes", container)
    for volume in docker("volume", "ls", "-q", "--filter", f"name={made}").split():
        docker("volume", "rm", volume)
    docker("network", "rm", made, code=None)


@pytest.fixture(scope="session")
def vps(host: LabHost, docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vps]:
    made = Vps(tmp_path_factory.mktemp("vps"), host)
    try:
        yield made
    finally:
        for kind, forced in (("container", ["-f"]), ("volume", ["-f"]), ("network", [])):
            names = docker(
                kind, "ls", *(["-a"] if kind == "container" else []), "-q", "--filter", "name=platform-"
            ).split()
            if names:
                docker(kind, "rm", *forced, *names, code=None)


@pytest.fixture
def standing(vps: Vps, docker: Docker) -> Vps:
    """The platform, set up and healthy before the test begins, whatever the one before left.

    Its containers tell at a hundredth of what status costs, which runs where one of them is not well.
    """
    server = "name=platform-prefect-server-lab"
    there = all_well(docker) and docker("ps", "-q", "--filter", server).strip()
    if not there and vps.invoke("prefect.status", code=None).returncode:
        vps.invoke("platform.setup")
    return vps
