"""A host of the compose target for tests of rules: a FakeRunner in front, its files in a temporary folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect_platform.config.settings import Settings
from prefect_platform.config.stack import DatabaseSpec, Stack
from prefect_platform.targets.compose.on_host import Site
from prefect_platform.targets.compose.target import Target
from prefect_platform.targets.docker.fake_runner import FakeRunner

ENV = "lab"
FACTS = "uid=0\nuser=root\nmemory=8589934592\nfree=99999999999\nwritable=yes\n"
DOCKER = "docker=yes\nengine=yes\ncompose=2.40.1\n"


class FakeHost:
    """What a test says of the host, and what was asked of it."""

    def __init__(self, root: Path, settings: Settings, runner: FakeRunner | None = None) -> None:
        self.root = root
        self.said: list[str] = []
        self.runner = runner or FakeRunner()
        self.runner.answer("sh", "-c", "*/proc/meminfo*", out=FACTS)
        self.runner.answer("sh", "-c", "*docker info*", out=DOCKER)
        self.target = Target(settings, self.said.append, self.runner)
        self.runner.answer("flock", "*", "docker", "compose")
        for command in ("stop", "restart", "rm", "pull"):
            self.runner.answer("docker", command)
        for kind in ("network", "volume", "image"):
            self.runner.answer("docker", kind, "[cdr]*")

    @property
    def site(self) -> Site:
        return self.target.site

    def containers(self, *found: Mapping[str, Any]) -> None:
        """All that there are, as `docker inspect` shows them."""
        self.runner.engine.containers = list(found)

    def release(self, stack: str, name: str, compose: str = "services: {}\n", scope: str = ENV) -> None:
        """A release folder; the last one made is the current one."""
        folder = self.root / scope / stack
        (folder / "releases" / name).mkdir(parents=True)
        (folder / "releases" / name / "compose.yml").write_text(compose)
        (folder / "current").unlink(missing_ok=True)
        (folder / "current").symlink_to(f"releases/{name}")

    def current(self, stack: str, scope: str = ENV) -> str:
        return (self.root / scope / stack / "current").readlink().name

    def history(self, *lines: tuple[str, str, str], scope: str = ENV) -> None:
        """(what, release, result), oldest first."""
        (self.root / scope).mkdir(exist_ok=True)
        with (self.root / scope / "history.jsonl").open("a") as file:
            for what, release, result in lines:
                entry = {"time": "", "who": "a@b", "what": what, "release": release, "result": result}
                file.write(json.dumps({**entry, "detail": ""}) + "\n")

    def docker(self) -> list[str]:
        """Docker's command lines, whole; its engine is asked over one connection."""
        return [line for line in self.runner.lines("docker", "flock") if "dial-stdio" not in line]


def stack(
    name: str, databases: Sequence[str] = (), needs: Sequence[str] = (), scope: str = "environment"
) -> Stack:
    """A stack without a folder."""
    own = tuple(DatabaseSpec(each, "PASSWORD") for each in databases)
    return Stack(name, Path(), "", name, tuple(needs), (), (), {}, scope=scope, databases=own)


def container(stack: str, service: str, name: str = "", env: str = ENV, **state: Any) -> dict[str, Any]:
    """As `docker inspect` shows it."""
    labels = {"env": env, "stack": stack, "service": service}
    running = {
        "Status": "running",
        "Running": True,
        "ExitCode": 0,
        "Pid": 100,
        "StartedAt": "2026-01-01T00:00:00Z",
    }
    return {
        "Name": f"/{name or f'platform-{stack}-{service}-lab'}",
        "State": running | state,
        "RestartCount": 0,
        "NetworkSettings": {"Networks": {}},
        "Config": {
            "Image": "image:1",
            "Env": [],
            "Labels": {f"prefect-platform.{key}": value for key, value in labels.items()},
        },
    }
