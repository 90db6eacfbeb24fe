"""The VPS target in the lab, over real ssh: from an empty host to a flow run, and what must hold of what then stands there.

The tests build on each other in the order of the file: one platform serves them all.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from prefect_platform.lab import LabHost
from tests.local.conftest import copy_repository, free_ports

from .conftest import Docker

pytestmark = pytest.mark.timeout(900)


class Vps:
    """A clone whose environment `lab` is the lab's host, and its `./invoke`, run as the root that the lab needs."""

    def __init__(self, folder: Path, host: LabHost) -> None:
        self.root = folder / "clone"
        copy_repository(self.root)
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.settings: dict[str, Any] = {
            "target": "compose",
            "host": host.host,
            "ssh_config": str(host.ssh_config),
            "gateway": {"public_url": self.url},
            "traefik": {"tls": "off", "http_port": port, "publish": "127.0.0.1"},
        }
        self.write()

    def write(self) -> None:
        text = yaml.safe_dump({"platform": {"environments": {"lab": self.settings}}})
        (self.root / "invoke.yaml").write_text(text)

    def invoke(self, *words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PREFECT_", "INVOKE_", "VAULT_"))
        }
        done = subprocess.run(
            [str(self.root / "invoke"), words[0], "--env", "lab", *words[1:]],
            env=environ,
            capture_output=True,
            text=True,
            timeout=800,
        )
        assert code in (None, done.returncode), (
            f"{words} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done


@pytest.fixture(scope="module")
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


def _containers(docker: Docker) -> dict[str, Any]:
    names = docker("ps", "-a", "--filter", "label=prefect-platform.env", "--format", "{{.Names}}").split()
    return {each["Name"].lstrip("/"): each for each in json.loads(docker("inspect", *names))}


def _secrets(vps: Vps, docker: Docker) -> list[str]:
    """Every value, as the services have them: read where a container of each stack has them."""
    found: list[str] = []
    for stack in ("postgres", "redis", "gateway", "prefect"):
        shown = docker("exec", f"platform-{stack}-vault-agent-lab", "cat", "/vault/secrets/.env")
        found += [line.partition("=")[2].strip("'") for line in shown.splitlines() if "='" in line]
    for file in (vps.root / ".state" / "hosts").rglob("vault.json"):
        found += list(json.loads(file.read_text()).values())
    return [value for value in found if len(value) > 8]


def test_an_empty_host_becomes_a_platform(vps: Vps, docker: Docker) -> None:
    alone = vps.invoke("prefect.setup", code=3)
    assert "needs vault" in alone.stderr
    assert "./invoke vault.setup --env lab" in alone.stderr
    done = vps.invoke("platform.setup")
    assert "recovery key 1" in done.stderr
    canary = next(line for line in done.stdout.splitlines() if " canary " in line)
    assert canary.startswith("ok")
    assert "its task run is recorded" in canary
    assert "FAIL" not in done.stdout
    assert {
        "platform-traefik",
        "platform-vault",
        "platform-postgres-lab",
        "platform-prefect-server-lab",
    } <= set(_containers(docker))


def test_a_second_setup_changes_nothing(vps: Vps, docker: Docker) -> None:
    before = {name: each["Id"] for name, each in _containers(docker).items()}
    again = vps.invoke("prefect.setup")
    assert "nothing changed" in again.stderr
    assert {name: each["Id"] for name, each in _containers(docker).items()} == before
    assert "nothing to do" in vps.invoke("prefect.plan").stdout


def test_every_container_is_locked_down(vps: Vps, docker: Docker) -> None:
    for name, each in _containers(docker).items():
        host, config = each["HostConfig"], each["Config"]
        assert config["User"].split(":")[0] not in ("", "0", "root"), name
        assert host["CapDrop"] == ["ALL"], name
        assert not host["CapAdd"], name
        assert host["ReadonlyRootfs"], name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        assert host["LogConfig"]["Config"]["max-size"] == "10m", name
        assert not [mount for mount in each["Mounts"] if "docker.sock" in mount["Source"]], name
        assert bool(host["PortBindings"]) == (name == "platform-traefik"), name


def test_secrets_show_nowhere(vps: Vps, docker: Docker, ssh: Callable[..., str]) -> None:
    values = _secrets(vps, docker)
    assert len(values) >= 7
    seen = {
        "docker inspect": json.dumps(_containers(docker)),
        "processes": ssh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '"),
        "history": ssh("cat /opt/platform/*/history.jsonl"),
        "releases": ssh("cat $(find /opt/platform -type f -path '*releases*')"),
        "plan": vps.invoke("prefect.plan").stdout,
        "logs": "".join(docker("logs", name) for name in _containers(docker)),
    }
    for place, text in seen.items():
        assert not [value for value in values if value in text], f"a secret stands in {place}"
    assert ssh("stat -c %a /opt/platform/lab/prefect/approle/secret-id").strip() == "600"


def test_redis_keeps_prefect_in_database_1(vps: Vps, docker: Docker) -> None:
    cli = 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli'
    run = ["exec", "platform-redis-lab", "/bin/sh", "/platform/entrypoint.sh", "/bin/sh", "-c"]
    assert int(docker(*run, f"{cli} -n 1 dbsize")) > 0
    assert set(docker(*run, f"{cli} -n 0 keys '*'").split()) <= {"platform:health"}


def test_a_role_cannot_read_another_stacks_database(vps: Vps, docker: Docker) -> None:
    program = (
        "import asyncio, asyncpg, os\n"
        "async def main(name):\n"
        "    c = await asyncpg.connect(host='platform-postgres-lab', user='prefect', database=name,"
        " password=os.environ['PREFECT_SERVER_DATABASE_PASSWORD'])\n"
        "    return await c.fetchval('select 1')\n"
        "print(asyncio.run(main('prefect')))\n"
        "for name in ('gateway', 'postgres'):\n"
        "    try: asyncio.run(main(name)); print('let in', name)\n"
        "    except asyncpg.InsufficientPrivilegeError: print('refused', name)\n"
    )
    words = ["exec", "-i", "platform-prefect-server-lab", "/bin/sh", "/platform/entrypoint.sh", "python", "-"]
    assert docker(*words, stdin=program).split() == ["1", "refused", "gateway", "refused", "postgres"]


def test_no_caller_of_the_api_reads_the_redis_password(vps: Vps, docker: Docker) -> None:
    token = vps.invoke("gateway.create-token", "--project", "tests", "--service", "all").stdout.strip()
    with httpx.Client(base_url=vps.url, headers={"Authorization": f"Bearer {token}"}) as client:
        shown = client.get("/api/admin/settings")
        assert shown.status_code == 200
        assert shown.json()["server"]["docket"]["url"].startswith("redis://:********@")
        assert not [value for value in _secrets(vps, docker) if value in shown.text]
        assert httpx.get(f"{vps.url}/api/admin/settings").status_code == 401


def test_a_changed_setting_recreates_only_what_it_concerns(vps: Vps, docker: Docker) -> None:
    before = {name: each["Id"] for name, each in _containers(docker).items()}
    vps.settings["prefect"] = {"workers": [{"name": "default", "pool": "default", "poll_seconds": 1}]}
    vps.write()
    assert "PREFECT_WORKER_QUERY_SECONDS" in vps.invoke("prefect.plan").stdout
    vps.invoke("prefect.setup")
    after = {name: each["Id"] for name, each in _containers(docker).items()}
    assert {name for name in before if after[name] != before[name]} == {"platform-prefect-worker-default-lab"}


def test_a_release_that_cannot_work_is_rolled_back(vps: Vps, docker: Docker, ssh: Callable[..., str]) -> None:
    good = ssh("readlink /opt/platform/lab/prefect/current")
    kept = dict(vps.settings["prefect"])
    # Redis' image has no Python: this worker can never start.
    worker = {"name": "default", "pool": "default", "image": "redis:8.10.2"}
    vps.settings["prefect"] = {"workers": [worker]}
    vps.write()
    failed = vps.invoke("prefect.setup", code=6)
    assert "prefect-worker-default" in failed.stderr
    assert "rolled back to release" in failed.stderr
    assert ssh("readlink /opt/platform/lab/prefect/current") == good
    vps.settings["prefect"] = kept
    vps.write()
    vps.invoke("prefect.setup")
    assert "failed" in vps.invoke("prefect.releases").stdout


def test_a_power_cut_is_survived(vps: Vps, host: LabHost, root: Path) -> None:
    from prefect_platform import lab

    lab.reboot(root, print, suddenly=True)
    end = time.monotonic() + 240
    while vps.invoke("prefect.status", code=None).returncode:
        assert time.monotonic() < end, vps.invoke("prefect.status", code=None).stdout
        time.sleep(3)
    assert "Completed" in vps.invoke("prefect.smoke").stdout
