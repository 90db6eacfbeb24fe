"""One lab for the folder, next to whatever lab this clone has: a root of its own, but images from a cache that stays between runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import prefect_platform_lab
from prefect_platform_lab import LabHost
from prefect_platform_lab.layout import CACHE_VARIABLE

from .vps import Vps

ROOT = Path(__file__).resolve().parents[2]
Docker = Callable[..., str]


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


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
def cache() -> Iterator[Path]:
    """Made images outlive a test run, unless the variable says another place."""
    before = os.environ.get(CACHE_VARIABLE)
    os.environ[CACHE_VARIABLE] = before or str(ROOT / ".state" / "lab-test-cache")
    yield Path(os.environ[CACHE_VARIABLE])
    if before is None:
        del os.environ[CACHE_VARIABLE]


@pytest.fixture(scope="session")
def root(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def host(root: Path) -> Iterator[LabHost]:
    """Fails, with the command to run, where a lab cannot be."""
    try:
        yield prefect_platform_lab.up(root, say)
    finally:
        prefect_platform_lab.down(root, say)


@pytest.fixture(scope="session")
def docker(host: LabHost) -> Docker:
    return docker_of(host)


@pytest.fixture
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
def standing(vps: Vps) -> Vps:
    """The platform, set up and healthy before the test begins, whatever the one before left."""
    if vps.invoke("prefect.status", code=None).returncode:
        vps.invoke("platform.setup")
    return vps
