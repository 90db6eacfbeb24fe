"""Passwords are changed in Vault alone: the platform follows by itself, whatever characters they have, and the old ones are worth nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from prefect_platform.secretstore.store import Secret
from prefect_platform.secretstore.vault.kv import Vault, VaultStore

from .conftest import Docker
from .vps import Vps, containers, wait_for

pytestmark = pytest.mark.timeout(600)

NASTY = "a'b\"c$HOME#%2F@d:e/f g\\n\\\\ü€\n`id`{{x}} ~!&|;*?<>()"
"""Quotes, $, #, %, @, :, /, spaces, backslashes, a newline, more than ASCII; and what shells, URLs and templates take for theirs."""
LOGIN = (
    "import asyncio, asyncpg, sys\n"
    "role, password = sys.stdin.read().split('\\0')\n"
    "try:\n"
    "    asyncio.run(asyncpg.connect(host='platform-postgres-lab', user=role, database=role, password=password))\n"
    "    print('let in')\n"
    "except asyncpg.InvalidPasswordError:\n"
    "    print('refused')\n"
)


@pytest.fixture
def store(standing: Vps, docker: Docker) -> VaultStore:
    """The environment's secrets, as an operator changes them."""
    (file,) = (standing.root / ".state" / "hosts").rglob("vault.json")
    token = json.loads(file.read_text())["OPERATOR_TOKEN"]
    found = json.loads(docker("inspect", "platform-vault"))[0]["NetworkSettings"]["Networks"]
    return VaultStore(Vault(f"http://{found['platform-vault']['IPAddress']}:8200", Secret(token)), "lab")


def _postgres(docker: Docker, role: str, password: str) -> str:
    script = f"import sys; exec({LOGIN!r})"
    words = ["exec", "-i", "platform-prefect-server-lab", "python", "-c", script]
    return docker(*words, stdin=f"{role}\0{password}").strip()


def _redis(docker: Docker, password: str) -> str:
    words = [
        "exec",
        "-i",
        "platform-redis-lab",
        "sh",
        "-c",
        "REDISCLI_AUTH=$(cat; echo x) && REDISCLI_AUTH=${REDISCLI_AUTH%x} redis-cli ping",
    ]
    return docker(*words, stdin=password, code=None)


@contextmanager
def _all_restart(vps: Vps, docker: Docker, *services: str) -> Iterator[None]:
    """Whoever uses what is changed inside starts anew, and all is well again."""

    def started() -> set[str]:
        found = containers(docker)
        return {found[f"platform-{each}-lab"]["State"]["StartedAt"] for each in services}

    before = started()
    yield
    wait_for(lambda: not before & started(), f"{services} start anew", 120)
    vps.until_well()


def test_any_password_reaches_postgres_and_redis_by_itself(
    standing: Vps, store: VaultStore, docker: Docker, ssh: Callable[..., str]
) -> None:
    old = {
        "prefect": store.read("prefect")["PREFECT_SERVER_DATABASE_PASSWORD"].value,
        "gateway": store.read("gateway")["PGPASSWORD"].value,
        "redis": store.read("redis")["REDIS_PASSWORD"].value,
    }
    # One kind after the other: who is started anew for Redis before the role has its new password finds no way in until the next setup.
    users = ("prefect-server", "prefect-services")
    with _all_restart(standing, docker, *users, "gateway-verifier"):
        store.merge("prefect", {"PREFECT_SERVER_DATABASE_PASSWORD": NASTY})
        store.merge("gateway", {"PGPASSWORD": NASTY + "g"})
    with _all_restart(standing, docker, *users, "redis"):
        store.merge("redis", {"REDIS_PASSWORD": NASTY + "r"})
    assert "Completed" in standing.invoke("prefect.smoke").stdout
    assert _postgres(docker, "prefect", NASTY) == "let in"
    assert _postgres(docker, "gateway", NASTY + "g") == "let in"
    for role in ("prefect", "gateway"):
        assert _postgres(docker, role, old[role]) == "refused"
    assert "PONG" in _redis(docker, NASTY + "r")
    assert "WRONGPASS" in _redis(docker, old["redis"])
    seen = json.dumps(containers(docker)) + "".join(docker("logs", name) for name in containers(docker))
    seen += ssh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert not [part for part in ("`id`{{x}}", old["prefect"], old["redis"]) if part in seen]
    # Setup, which sets the role's password too, agrees with what is there.
    assert "nothing changed" in standing.invoke("prefect.setup").stderr


def test_a_password_is_changed_by_a_task(standing: Vps, store: VaultStore, docker: Docker) -> None:
    old = store.read("prefect")["PREFECT_SERVER_DATABASE_PASSWORD"].value
    done = standing.invoke("prefect.rotate-secret", "PREFECT_SERVER_DATABASE_PASSWORD")
    assert "the new password is set" in "".join(
        docker("logs", name) for name in ("platform-prefect-server-lab", "platform-prefect-services-lab")
    )
    new = store.read("prefect")["PREFECT_SERVER_DATABASE_PASSWORD"].value
    assert new != old
    assert _postgres(docker, "prefect", new) == "let in"
    assert "canary" in done.stdout
    refused = standing.invoke("prefect.rotate-secret", "PREFECT_SERVER_ENCRYPTION_KEY", code=2)
    assert "PREFECT_SERVER_DATABASE_PASSWORD" in refused.stderr


def test_an_empty_password_is_not_taken(standing: Vps, store: VaultStore, docker: Docker) -> None:
    good = store.read("prefect")["PREFECT_SERVER_DATABASE_PASSWORD"].value
    store.merge("prefect", {"PREFECT_SERVER_DATABASE_PASSWORD": ""})
    wait_for(lambda: "is empty now" in docker("logs", "platform-prefect-server-lab"), "a word about it")
    assert _postgres(docker, "prefect", good) == "let in"
    standing.invoke("prefect.smoke")
    store.merge("prefect", {"PREFECT_SERVER_DATABASE_PASSWORD": good})
    agent = ("exec", "platform-prefect-vault-agent-lab", "cat", "/vault/secrets/.env")
    wait_for(lambda: good in docker(*agent), "the agent has rendered it again")
    standing.until_well()
