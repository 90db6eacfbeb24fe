"""An environment whose Vault is somebody else's: with a token that may do only what vault/operator-policy.hcl says."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform.secretstore import Secret
from prefect_platform.vault import Vault
from prefect_platform.vault_setup import setup
from tests.vault.bao import Server, free_port, work

from .conftest import Docker
from .vps import Vps, containers

pytestmark = pytest.mark.timeout(900)


def _own_address() -> str:
    """This machine's, as containers reach it: a Vault on its loopback would be theirs."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("203.0.113.1", 53))  # sends nothing
        return str(probe.getsockname()[0])


@pytest.fixture(scope="module")
def external(vps: Vps, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("external")
    (folder / "server").mkdir()
    each = Server(folder / "server", free_port(), _own_address())
    each.start()
    try:
        operator = work(folder / "operator", keep_recovery_keys=True)
        setup(operator, each)
        assert operator.token
        (folder / "token").write_text(operator.token.value)
        vps.others["external"] = {**vps.settings, "vault": {"address": each.address}}
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
    done = standing.invoke("redis.setup", "--with-needs", env="external", VAULT_TOKEN=token)
    assert "ok" in next(line for line in done.stdout.splitlines() if "redis-redis" in line)
    cli = 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli ping'
    run = ["exec", "platform-redis-external", "/bin/sh", "/platform/entrypoint.sh", "/bin/sh", "-c", cli]
    assert docker(*run).strip() == "PONG"
    assert "platform/external/redis" in json.dumps(external.requests())
    # The host's own Vault, of another environment, is as it was.
    after = {name: each["Id"] for name, each in containers(docker).items()}
    assert {name: after[name] for name in ours} == ours
    standing.invoke("platform.remove", "--data", "--yes", env="external", VAULT_TOKEN=token)
    assert "external" not in docker("ps", "-a", "--format", "{{.Names}}")


def test_the_token_of_the_environment_is_not_written_down(standing: Vps, external: Server) -> None:
    token = (external.folder.parent / "token").read_text()
    found = [
        file for file in Path(standing.root).rglob("*") if file.is_file() and file.stat().st_size < 10**6
    ]
    assert not [file for file in found if token.encode() in file.read_bytes()]
