"""A clone whose environment `lab` is the lab's host: what the tests of the VPS target share. One platform serves them all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from prefect_platform_lab import LabHost
from tests.local.conftest import copy_repository, free_ports


def invoke(
    root: Path, env: str, words: Sequence[str], code: int | None, environ: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """`./invoke` of a clone, with none of the variables that would steer it; it must end with `code` (None: any)."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "INVOKE_", "VAULT_"))
    }
    done = subprocess.run(
        [str(root / "invoke"), words[0], "--env", env, *words[1:]],
        env=clean | dict(environ),
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert code in (None, done.returncode), (
        f"{words} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    return done


class Vps:
    """A clone whose environment `lab` is the lab's host, and its `./invoke`, run as the root that the lab needs."""

    def __init__(self, folder: Path, host: LabHost) -> None:
        self.root = folder / "clone"
        copy_repository(self.root)
        self.settings: dict[str, Any] = {
            "target": "compose",
            "host": host.host,
            "ssh_config": str(host.ssh_config),
            "gateway": {},
            "traefik": {"tls": "off", "publish": "127.0.0.1"},
            # So that a test can do what an administrator may.
            "vault": {"keep_recovery_keys": True, "render_interval": 5},
        }
        self.others: dict[str, Any] = {}
        self.move_to_another_port()

    def move_to_another_port(self) -> None:
        """A free one, in its settings."""
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.settings["gateway"]["public_url"] = self.url
        self.settings["traefik"]["http_port"] = port
        self.write()

    def write(self) -> None:
        text = yaml.safe_dump({"platform": {"environments": {"lab": self.settings, **self.others}}})
        (self.root / "invoke.yaml").write_text(text)

    def invoke(
        self, *words: str, code: int | None = 0, env: str = "lab", environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return invoke(self.root, env, words, code, environ or {})

    def until_well(self, seconds: float = 150) -> None:
        """Until status is green."""
        found = [self.invoke("prefect.status", code=None)]

        def well() -> bool:
            found.append(self.invoke("prefect.status", code=None))
            return found[-1].returncode == 0

        if found[-1].returncode:
            wait_for(well, lambda: found[-1].stdout, seconds)

    def client(self, env: str = "lab", url: str = "") -> httpx.Client:
        """The platform as a client with a token of its own reaches it; the paths are those of Prefect's API."""
        made = self.invoke("gateway.create-token", "--project", "tests", "--service", "all", env=env)
        return httpx.Client(
            base_url=f"{url or self.url}/api",
            headers={"Authorization": f"Bearer {made.stdout.strip()}"},
            timeout=70,
        )


def containers(docker: Callable[..., str]) -> dict[str, Any]:
    names = docker("ps", "-a", "--filter", "label=prefect-platform.env", "--format", "{{.Names}}").split()
    found = json.loads(docker("inspect", *names)) if names else []
    return {each["Name"].lstrip("/"): each for each in found}


def all_well(docker: Callable[..., str]) -> bool:
    """Every container of the platform runs, and is healthy if it has a health check; those that run once do not count."""
    label = ("ps", "-a", "-q", "--filter", "label=prefect-platform.env")
    there = containers(docker).values() if docker(*label).strip() else ()
    lasting = [each for each in there if "prefect-platform.once" not in each["Config"]["Labels"]]
    states = [each["State"] for each in lasting]
    return bool(states) and all(
        state["Running"] and state.get("Health", {}).get("Status") in (None, "healthy") for state in states
    )


def own_address() -> str:
    """This machine's, as containers reach it: what listens on its loopback cannot be reached from there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("203.0.113.1", 53))  # sends nothing
        return str(probe.getsockname()[0])


def secrets(vps: Vps, docker: Callable[..., str]) -> list[str]:
    """Every value, as the services have them: read where a container of each stack has them."""
    found: list[str] = []
    there = containers(docker)
    stacks = ("postgres", "redis", "gateway", "prefect", "authentik")
    for stack in (each for each in stacks if f"platform-{each}-vault-agent-lab" in there):
        shown = docker("exec", f"platform-{stack}-vault-agent-lab", "cat", "/vault/secrets/.env")
        found += [line.partition("=")[2].strip("'") for line in shown.splitlines() if "='" in line]
    for file in (vps.root / ".state" / "hosts").rglob("vault.json"):
        found += list(json.loads(file.read_text()).values())
    return [value for value in found if len(value) > 8]


def wait_for(condition: Callable[[], Any], what: str | Callable[[], str], seconds: float = 150) -> Any:
    """The condition's first true value. `what` may be asked when it did not come true.

    What has taken long is looked at less often: each look costs, and what is waited for needs the same processors.
    """
    began = time.monotonic()
    while not (found := condition()):
        waited = time.monotonic() - began
        assert waited < seconds, f"not within {seconds} s: {what if isinstance(what, str) else what()}"
        time.sleep(min(max(0.2, waited / 10), 3))
    return found
