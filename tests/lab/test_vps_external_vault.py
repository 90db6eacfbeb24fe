"""An environment whose Vault is somebody else's: with a token that may do only what vault/operator-policy.hcl says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform.secretstore.store import Secret
from prefect_platform.secretstore.vault.kv import Vault
from prefect_platform.secretstore.vault.setup import setup
from prefect_platform_lab import LabHost
from tests.vault.bao import Server, free_port, work

from .conftest import Docker, call
from .vps import Vps, containers, own_address

pytestmark = pytest.mark.timeout(900)


def ssh_home(host: LabHost) -> str:
    return call("ssh", "-F", host.ssh_config, "platform-lab-deployer", "pwd").strip()


ENVIRONMENTS = ("external", "ordinary", "here")


@pytest.fixture(scope="module")
def external(vps: Vps, host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("external")
    (folder / "server").mkdir()
    each = Server(folder / "server", free_port(), own_address())
    each.start()
    try:
        operator = work(folder / "operator", keep_recovery_keys=True)
        setup(operator, each)
        assert operator.token
        (folder / "token").write_text(operator.token.value)
        vault = {"vault": {"address": each.address}}
        # No two environments have the same public URL; these never serve theirs.
        urls = {
            name: vps.url.replace("127.0.0.1", f"127.0.0.{number}")
            for number, name in enumerate(ENVIRONMENTS, 2)
        }
        own = {name: {**vps.settings, **vault, "gateway": {"public_url": url}} for name, url in urls.items()}
        vps.others["external"] = own["external"]
        # Somebody without root, but in the group docker; and an engine on this very machine.
        home = ssh_home(host)
        ordinary = {"host": "platform-lab-deployer", "root": f"{home}/platform"}
        vps.others["ordinary"] = {**own["ordinary"], **ordinary}
        vps.others["here"] = {**own["here"], "host": "localhost", "root": str(folder / "here")}
        vps.write()
        yield each
    finally:
        vps.others.clear()
        vps.write()
        each.stop()


def test_a_stack_gets_its_secrets_from_another_vault(standing: Vps, external: Server, docker: Docker) -> None:
    ours = {name: each["Id"] for name, each in containers(docker).items()}
    refused = standing.invoke("redis.setup", "--with-needs", env="external", code=None)
    assert refused.returncode
    assert "VAULT_TOKEN" in refused.stderr
    token = (external.folder.parent / "token").read_text()
    assert Vault(external.address, Secret(token)).token_policies() == ["default", "platform-operator"]
    done = standing.invoke("redis.setup", "--with-needs", env="external", environ={"VAULT_TOKEN": token})
    assert "ok" in next(line for line in done.stdout.splitlines() if "redis-redis" in line)
    cli = 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli ping'
    run = ["exec", "platform-redis-external", "/bin/sh", "/platform/entrypoint.sh", "/bin/sh", "-c", cli]
    assert docker(*run).strip() == "PONG"
    assert "platform/external/redis" in json.dumps(external.requests())
    # The host's own Vault, of another environment, is as it was.
    after = {name: each["Id"] for name, each in containers(docker).items()}
    assert {name: after[name] for name in ours} == ours
    standing.invoke("platform.remove", "--data", "--yes", env="external", environ={"VAULT_TOKEN": token})
    assert "external" not in docker("ps", "-a", "--format", "{{.Names}}")


@pytest.mark.parametrize("env", ["ordinary", "here"])
def test_neither_root_nor_ssh_is_needed(
    standing: Vps, external: Server, docker: Docker, host: LabHost, env: str
) -> None:
    token = (external.folder.parent / "token").read_text()
    given = {"VAULT_TOKEN": token, **({"DOCKER_HOST": host.docker_host} if env == "here" else {})}
    standing.invoke("redis.setup", "--with-needs", env=env, environ=given)
    cli = 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli ping'
    run = ["exec", f"platform-redis-{env}", "/bin/sh", "/platform/entrypoint.sh", "/bin/sh", "-c", cli]
    assert docker(*run).strip() == "PONG"
    agent = f"platform-redis-vault-agent-{env}"
    assert docker("exec", agent, "stat", "-c", "%a %u", "/vault/approle/secret-id").split() == ["600", "999"]
    assert "nothing changed" in standing.invoke("redis.setup", env=env, environ=given).stderr
    standing.invoke("platform.remove", "--data", "--yes", env=env, environ=given)
    assert env not in docker("volume", "ls", "--format", "{{.Name}}")


def test_the_token_of_the_environment_is_not_written_down(standing: Vps, external: Server) -> None:
    token = (external.folder.parent / "token").read_text()
    found = [
        file for file in Path(standing.root).rglob("*") if file.is_file() and file.stat().st_size < 10**6
    ]
    assert not [file for file in found if token.encode() in file.read_bytes()]
