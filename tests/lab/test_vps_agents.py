"""Passwords are changed in Vault alone: the platform follows by itself, whatever characters they have, and the old ones are worth nothing."""

from __future__ import annotations

import json
from collections.abc import Callable

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


def _restarted(docker: Docker, before: dict[str, str], *names: str) -> bool:
    now = {name: each["State"]["StartedAt"] for name, each in containers(docker).items()}
    return all(now[name] != before[name] for name in names)


def test_any_password_reaches_postgres_and_redis_by_itself(
    standing: Vps, store: VaultStore, docker: Docker, ssh: Callable[..., str]
) -> None:
    old = {
        "prefect": store.read("prefect")["PREFECT_SERVER_DATABASE_PASSWORD"].value,
        "gateway": store.read("gateway")["PGPASSWORD"].value,
        "redis": store.read("redis")["REDIS_PASSWORD"].value,
    }
    before = {name: each["State"]["StartedAt"] for name, each in containers(docker).items()}
    store.merge("prefect", {"PREFECT_SERVER_DATABASE_PASSWORD": NASTY})
    store.merge("gateway", {"PGPASSWORD": NASTY + "g"})
    store.merge("redis", {"REDIS_PASSWORD": NASTY + "r"})
    mine = ("prefect-server", "prefect-services", "gateway-verifier", "redis")
    names = [f"platform-{name}-lab" for name in mine]
    wait_for(lambda: _restarted(docker, before, *names), "whoever uses them has started anew", 120)
    standing.until_well()
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
