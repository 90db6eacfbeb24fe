"""A second environment beside the first on the same host: nothing of one is reached from the other, and its end leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx
import pytest

from .conftest import Docker
from .vps import Vps, containers

pytestmark = pytest.mark.timeout(900)


def _flows(client: httpx.Client) -> set[str]:
    return {each["name"] for each in client.post("/flows/filter", json={}).raise_for_status().json()}


def _ids(docker: Docker, scope: str) -> dict[str, str]:
    found = containers(docker).items()
    return {
        name: each["Id"] for name, each in found if each["Config"]["Labels"]["prefect-platform.env"] == scope
    }


@pytest.fixture(scope="module")
def alpha(vps: Vps) -> Iterator[str]:
    """Its public URL: Traefik tells the two apart by the host's name. Its own name goes before the first's, as its networks' do."""
    url = vps.url.replace("127.0.0.1", "localhost")
    vps.others["alpha"] = {**vps.settings, "gateway": {"public_url": url}}
    vps.write()
    yield url
    vps.others.clear()
    vps.write()


def test_a_second_environment_leaves_the_first_alone(standing: Vps, alpha: str, docker: Docker) -> None:
    before, shared = _ids(docker, "lab"), _ids(docker, "host")
    done = standing.invoke("prefect.setup", "--with-needs", env="alpha")
    # The host's Vault is there already; its Traefik has to enter another network, and does so while it serves the first.
    assert "== vault" not in done.stderr
    assert "== traefik" in done.stderr
    assert "Completed" in standing.invoke("prefect.smoke", env="alpha").stdout
    assert (_ids(docker, "lab"), _ids(docker, "host")) == (before, shared)
    standing.invoke("prefect.status")


def test_neither_sees_what_the_other_has(standing: Vps, alpha: str) -> None:
    with standing.client() as mine, standing.client("alpha", alpha) as other:
        mine.post("/flows/", json={"name": "of-the-first"}).raise_for_status()
        other.post("/flows/", json={"name": "of-the-second"}).raise_for_status()
        assert _flows(mine) & {"of-the-first", "of-the-second"} == {"of-the-first"}
        assert _flows(other) & {"of-the-first", "of-the-second"} == {"of-the-second"}
        # A token is for the environment that made it.
        wrong = mine.headers["Authorization"]
        assert httpx.get(f"{alpha}/api/flows/count", headers={"Authorization": wrong}).status_code == 401


def test_no_network_leads_from_one_to_the_other(docker: Docker, alpha: str) -> None:
    members: dict[str, set[str]] = {}
    for each in containers(docker).values():
        for network in each["NetworkSettings"]["Networks"]:
            members.setdefault(network, set()).add(each["Config"]["Labels"]["prefect-platform.env"])
    both = {network for network, scopes in members.items() if {"lab", "alpha"} <= scopes}
    # Agents of all stacks meet there, none of which listens; it has no way out.
    assert both == {"platform-vault"}
    assert json.loads(docker("network", "inspect", "platform-vault"))[0]["Internal"]


def test_one_agent_cannot_read_the_secrets_of_the_other(docker: Docker, alpha: str) -> None:
    script = (
        "export BAO_ADDR=http://platform-vault:8200; id=$(cat /vault/approle/role-id); "
        'token=$(bao write -field=token auth/approle/login role_id="$id" secret_id=@/vault/approle/secret-id); '
        'for env in alpha lab; do BAO_TOKEN="$token" bao kv get "secret/platform/$env/prefect" >/dev/null 2>&1 '
        "&& echo read $env || echo refused $env; done"
    )
    said = docker("exec", "platform-prefect-vault-agent-alpha", "/bin/sh", "-c", script)
    assert said.split() == ["read", "alpha", "refused", "lab"]


def test_its_end_leaves_nothing_of_it(
    standing: Vps, alpha: str, docker: Docker, ssh: Callable[..., str]
) -> None:
    refused = standing.invoke("postgres.remove", "--yes", code=2, env="alpha")
    assert "postgres is needed by gateway (alpha), prefect (alpha)" in refused.stderr
    assert "vault is needed by" in standing.invoke("vault.remove", "--yes", code=2, env="alpha").stderr
    asked = standing.invoke("platform.remove", "--data", code=2, env="alpha")
    assert "add --yes to do it" in asked.stderr
    before = _ids(docker, "lab")
    standing.invoke("platform.remove", "--data", "--yes", env="alpha")
    assert not _ids(docker, "alpha")
    for kind in ("volume", "network"):
        assert "alpha" not in docker(kind, "ls", "--format", "{{.Name}}")
    assert "alpha" not in ssh("ls /opt/platform /opt/platform/host/routes")
    assert _ids(docker, "lab") == before
    # What the host shares runs on, and is not taken for it.
    assert (
        "environment 'alpha' is not running" in standing.invoke("platform.status", code=5, env="alpha").stdout
    )
    standing.invoke("traefik.setup")
    standing.invoke("prefect.status")


def test_traefik_outlives_every_environment(standing: Vps, docker: Docker) -> None:
    """Docker starts no container whose first network is gone, and Compose does not see that a container has left one."""
    docker("restart", "platform-traefik")
    standing.until_well()
    docker("network", "disconnect", "platform-edge-lab", "platform-traefik")
    said = standing.invoke("traefik.plan").stdout
    assert "join" in said
    assert "network platform-edge-lab" in said
    standing.invoke("traefik.setup")
    assert "nothing to do" in standing.invoke("traefik.plan").stdout
    standing.invoke("prefect.status")
