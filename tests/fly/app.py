"""A clone whose environment `fly` is an app on Fly; flyctl is the stand-in beside the code that calls it, the machine is a real engine's."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from prefect_platform_lab import LabHost
from prefect_platform_lab.standins import flyctl as _fly_standin
from tests.lab.vps import invoke
from tests.local.conftest import copy_repository, free_ports

READING = {
    "apps list",
    "status",
    "machine list",
    "volumes list",
    "secrets list",
    "releases",
    "machine exec",
    "platform regions",
    "logs",
}


class Fly:
    """Its clone, and the clone's `./invoke` with the environment `fly`."""

    def __init__(self, folder: Path, host: LabHost, app: str, **fly: Any) -> None:
        self.folder, self.app, self.container = folder, app, f"fly-{app}"
        self.root = folder / "clone"
        self.state = self.root / ".state" / "fly"
        copy_repository(self.root)
        (port,) = free_ports(1)
        self.ports = {"port": port}
        self.url = f"http://127.0.0.1:{port}"
        programs = folder / "bin"
        programs.mkdir()
        flyctl = programs / "flyctl"
        flyctl.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m {_fly_standin.__name__} "$@"\n')
        flyctl.chmod(0o755)
        self.environ = {
            "PATH": f"{programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "FLY_STANDIN": str(folder),
            "FLY_STANDIN_PORT": str(port),
            "DOCKER_HOST": host.docker_host,
        }
        self.settings: dict[str, Any] = {
            "target": "fly",
            "fly": {"app": app, "region": "iad", **fly},
            "gateway": {"public_url": self.url},
            # Fly gives a machine five minutes to stop.
            "prefect": {"workers": [{"name": "default", "pool": "default", "drain_seconds": 5}]},
        }
        self.others: dict[str, Any] = {}
        self.write()

    def write(self) -> None:
        text = yaml.safe_dump({"platform": {"environments": {"fly": self.settings, **self.others}}})
        (self.root / "invoke.yaml").write_text(text)

    def invoke(
        self, *words: str, code: int | None = 0, environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return invoke(self.root, "fly", words, code, {**self.environ, **(environ or {})})

    def flyctl(self, *words: str) -> str:
        """As Fly itself, or somebody else at it, would."""
        done = subprocess.run(
            ["flyctl", *words, "-a", self.app],
            env={**os.environ, **self.environ},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def client(self, service: str = "tests") -> httpx.Client:
        """Prefect's API as a client with a token of its own reaches it."""
        made = self.invoke("gateway.create-token", "--project=tests", f"--service={service}").stdout.strip()
        headers = {"Authorization": f"Bearer {made}"}
        return httpx.Client(base_url=f"{self.url}/prefect/api", headers=headers, timeout=90)

    def until_ready(self, api: httpx.Client) -> None:
        """A client that comes too early is held, or has no connection yet; it is never told something else."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                answer = api.get("/ready")
            except httpx.TransportError:
                time.sleep(0.1)
                continue
            assert answer.status_code == 200, answer.text
            return
        raise AssertionError("the machine does not come back")

    def calls(self) -> list[list[str]]:
        """What flyctl was asked since the last look."""
        file = self.folder / "calls.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def writes(self) -> list[str]:
        kinds = [
            " ".join(words[:2]) if words[0] not in ("deploy", "status", "logs", "releases") else words[0]
            for words in self.calls()
        ]
        return [kind for kind in kinds if kind not in READING]

    def fault(self, kind: str, said: str = "") -> None:
        (self.folder / "faults.json").write_text(json.dumps({kind: {"said": said}}))

    def secrets(self) -> list[str]:
        files = (self.state / "secrets").glob("*.json")
        held = [
            json.loads(file.read_text()) for file in files if file.stem in ("gateway", "prefect", "operator")
        ]
        return [value for each in held for value in each.values()]

    def known(self) -> Any:
        """Fly's side."""
        return json.loads((self.folder / "fly.json").read_text())

    @property
    def machine(self) -> Any:
        return self.known()["apps"][self.app]["machines"][0]

    def change(self, **values: Any) -> None:
        """Fly's side, changed by somebody else."""
        (self.folder / "fly.json").write_text(json.dumps({**self.known(), **values}))


class Writer(threading.Thread):
    """Makes flow runs until the machine is gone. `acknowledged`: those that it said yes to, and when; `refused`: its other answers."""

    def __init__(self, api: httpx.Client, flow: str) -> None:
        super().__init__()
        self.api, self.flow = api, flow
        self.acknowledged: dict[str, float] = {}
        self.refused: list[int] = []

    def run(self) -> None:
        with contextlib.suppress(httpx.TransportError):
            while True:
                made = self.api.post("/flow_runs/", json={"flow_id": self.flow})
                if made.status_code == 201:
                    self.acknowledged[made.json()["id"]] = time.monotonic()
                else:
                    self.refused.append(made.status_code)
