"""One real platform for the whole folder: a copy of the repository, an empty home, free ports, `./invoke prefect.setup`."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from supervisor.xmlrpc import SupervisorTransport

ROOT = Path(__file__).resolve().parents[2]
USER = "nobody" if os.geteuid() == 0 else None
"""Who runs the platform: never root, also where root runs the tests. The machine's own Python must be readable for it."""


def package_caches() -> dict[str, str]:
    """Variables that let all clones of a run, and of the next, share what uv and pip downloaded, though each has an empty home.

    The folder is its user's alone; nobody else can put packages into it.
    """
    folder = Path(tempfile.gettempdir()) / f"prefect-platform-tests-{USER or os.geteuid()}"
    owner = pwd.getpwnam(USER).pw_uid if USER else os.geteuid()
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        os.chown(folder, owner, -1)
    if folder.is_symlink() or folder.stat().st_uid != owner:
        # Somebody else's: without a shared cache, then.
        return {}
    return {"UV_CACHE_DIR": str(folder / "uv"), "PIP_CACHE_DIR": str(folder / "pip")}


def copy_repository(to: Path) -> None:
    """The repository as git would hand it out, uncommitted changes included."""
    words = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


class Clone:
    """A copy of the repository as git would hand it out, and its `./invoke`."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "clone"
        self.home = folder / "home"
        self.home.mkdir()
        copy_repository(self.root)
        self.ports = dict(
            zip(("port", "verifier_port", "auth_port", "ops_port", "prefect"), free_ports(5), strict=True)
        )
        self.settings: dict[str, Any] = {
            "gateway": {name: port for name, port in self.ports.items() if name != "prefect"},
            "prefect": {"port": self.ports["prefect"]},
        }
        self.write()
        if USER:
            for path in (folder, *folder.rglob("*")):
                shutil.chown(path, USER)

    @property
    def state(self) -> Path:
        return self.root / ".state" / "local"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['port']}"

    def write(self) -> None:
        (self.root / "invoke.yaml").write_text(yaml.safe_dump({"platform": self.settings}))

    def start(
        self, *words: str, cwd: Path | None = None, program: str = "", **env: str
    ) -> subprocess.Popen[str]:
        """`./invoke`, or another program for it, in the background, as the user it is for, in a session of its own."""
        passed = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PREFECT_", "INVOKE_", "HOME"))
        }
        return subprocess.Popen(
            [str(program or self.root / "invoke"), *words],
            env={**passed, **package_caches(), "HOME": str(self.home), **env},
            cwd=cwd or self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=USER,
            group="nogroup" if USER else None,
            extra_groups=[] if USER else None,
            start_new_session=True,
            umask=0,  # the worst that an operator can have: what we make must be closed to others all the same
        )

    def invoke(
        self,
        *words: str,
        code: int | None = 0,
        cwd: Path | None = None,
        program: str = "",
        **env: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run `./invoke`; with `code` not None its exit code must be that."""
        with self.start(*words, cwd=cwd, program=program, **env) as process:
            try:
                out, err = process.communicate(timeout=600)
            except BaseException:
                process.kill()
                raise
        assert code is None or process.returncode == code, (
            f"{words} ended with {process.returncode}\n{out}\n{err}"
        )
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.invoke("prefect.status", "--json", code=None).stdout))

    def pids(self) -> dict[str, int]:
        """Process ids by service, from supervisord itself: a `prefect.status` for each look would cost more than most tests do."""
        transport = SupervisorTransport(None, None, f"unix://{self.state}/run/supervisor.sock")
        with xmlrpc.client.ServerProxy("http://local", transport=transport) as server:
            found: Any = server.supervisor.getAllProcessInfo()
        return {each["name"]: each["pid"] for each in found if each["statename"] == "RUNNING"}


def free_ports(count: int) -> list[int]:
    """None of those that the kernel gives to connections: between now and their use one of these could be taken, on a busy machine."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            each = socket.socket()
            try:
                each.bind(("127.0.0.1", random.randrange(10_000, first)))
            except OSError:
                each.close()
                continue
            sockets.append(each)
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@pytest.fixture(scope="session")
def clone() -> Iterator[Clone]:
    """A clone on which nothing was done yet. Whatever a test starts on it is stopped at the end."""
    folder = Path(tempfile.mkdtemp(prefix="platform-"))
    made = Clone(folder)
    try:
        yield made
    finally:
        made.write()
        made.invoke("prefect.remove", "--yes", "--data", code=None)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def first_setup(clone: Clone) -> subprocess.CompletedProcess[str]:
    return clone.invoke("prefect.setup")


@pytest.fixture
def platform(clone: Clone, first_setup: subprocess.CompletedProcess[str]) -> Clone:
    """The running platform, as set up."""
    assert first_setup.returncode == 0
    return clone


@pytest.fixture(scope="session")
def token(clone: Clone, first_setup: subprocess.CompletedProcess[str]) -> str:
    assert first_setup.returncode == 0
    return clone.invoke("gateway.create-token", "--project", "tests", "--service", "all").stdout.strip()
