"""What a stack's token and the operator's token may do, asked of a real Vault."""

from __future__ import annotations

import pytest

from prefect_platform.config.stack import SecretSpec, Stack
from prefect_platform.errors import ConfigError
from prefect_platform.secretstore.store import Secret
from prefect_platform.secretstore.vault.kv import Vault, role_name

from .conftest import ENV, Ready, admit, make_stack

OWNER = make_stack("p-owner", SecretSpec("PASSWORD", "password"), SecretSpec("OTHER", "password"))
TAKER = make_stack("p-taker", SecretSpec("OWN", "password"), SecretSpec("TAKEN", "", "p-owner/PASSWORD"))


def _login(ready: Ready, stack: Stack, env: str = ENV) -> Vault:
    name = admit(ready.vault, stack, env)
    ready.store(env).ensure(stack)
    secret_id = ready.vault.new_secret_id(name)
    role_id = ready.vault.role_id(name)
    answer = Vault(ready.server.address, None).client.call(
        lambda api: api.auth.approle.login(role_id, secret_id.value)
    )
    return Vault(ready.server.address, Secret(answer["auth"]["client_token"]))


def _request(vault: Vault, method: str, path: str) -> None:
    body = {"data": {}, "policy": "", "type": "kv"}
    more = {"data": body} if method == "write_data" else {}
    vault.client.call(lambda api: getattr(api, method)(path, **more))


def test_a_stack_reads_its_own_and_what_it_takes(ready: Ready) -> None:
    ready.store().ensure(OWNER)
    ready.store("staging").ensure(OWNER)
    taker = _login(ready, TAKER)
    assert sorted(taker.read(f"platform/{ENV}/p-taker")) == ["OWN"]
    assert "PASSWORD" in taker.read(f"platform/{ENV}/p-owner")
    owner = _login(ready, OWNER)
    for vault, path in (
        (owner, f"platform/{ENV}/p-taker"),
        (owner, "platform/staging/p-owner"),
        (taker, "platform/staging/p-taker"),
        (taker, f"platform/{ENV}/p-taker-more"),
    ):
        with pytest.raises(
            ConfigError, match=f"permission denied: the token may not read secret/data/{path}"
        ):
            vault.read(path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("write_data", f"secret/data/platform/{ENV}/p-taker"),
        ("list", "secret/metadata/platform"),
        ("read", "sys/policies/acl/platform-operator"),
        ("write_data", "auth/token/create"),
        ("write_data", f"auth/approle/role/{role_name(ENV, 'p-taker')}/secret-id"),
    ],
)
def test_a_stack_does_nothing_else(ready: Ready, method: str, path: str) -> None:
    ready.store().ensure(OWNER)
    with pytest.raises(ConfigError, match="permission denied"):
        _request(_login(ready, TAKER), method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("write_data", "secret/data/other/x"),
        ("read", "secret/data/other/x"),
        ("delete", f"secret/metadata/platform/{ENV}/p-owner"),
        ("write_data", "sys/policies/acl/other"),
        ("write_data", "sys/policies/acl/platform-operator"),
        ("read", "sys/policies/acl/root"),
        ("write_data", "auth/approle/role/other"),
        ("write_data", "auth/approle/role/other/secret-id"),
        ("write_data", "auth/token/create"),
        ("write_data", "auth/token/create-orphan"),
        ("list", "auth/token/accessors"),
        ("write_data", "sys/mounts/more"),
        ("write_data", "sys/auth/more"),
        ("read", "sys/audit"),
        ("write_data", "sys/seal"),
        ("read", "sys/raw/core"),
        ("read", "sys/storage/raft/snapshot"),
    ],
)
def test_the_operator_does_nothing_else(ready: Ready, method: str, path: str) -> None:
    with pytest.raises(ConfigError, match="permission denied"):
        _request(ready.vault, method, path)


def test_every_ensure_writes_only_a_difference(ready: Ready) -> None:
    vault, name = ready.vault, role_name(ENV, "p-again")
    text = 'path "secret/data/x" { capabilities = ["read"] }\n'
    assert (vault.ensure_policy(name, text), vault.ensure_role(name, name)) == ("created", "created")
    before = ready.server.writes()
    done = (
        vault.ensure_kv(),
        vault.ensure_approle(),
        vault.ensure_policy(name, text),
        vault.ensure_role(name, name),
    )
    assert (set(done), ready.server.writes()) == ({"unchanged"}, before)
    assert vault.ensure_policy(name, text + "# more\n") == "updated"
    assert vault.ensure_role(name, f"{name}.other") == "updated"


def test_logins_are_replaced(ready: Ready) -> None:
    vault, name = ready.vault, admit(ready.vault, make_stack("p-logins", SecretSpec("A", "password")))
    old, new = vault.new_secret_id(name), vault.new_secret_id(name)
    assert vault.secret_id_works(name, old)
    assert vault.drop_other_secret_ids(name, new) == 1
    assert (vault.secret_id_works(name, old), vault.secret_id_works(name, new)) == (False, True)


def test_names_of_environments_and_stacks_cannot_run_together() -> None:
    assert role_name("a", "b-c") != role_name("a-b", "c")


def test_an_observing_vault_writes_nothing(ready: Ready) -> None:
    vault, name = ready.vault, role_name(ENV, "p-observed")
    observing = Vault(ready.server.address, ready.token, observing=True)
    before = ready.server.writes()
    assert (observing.ensure_policy(name, "# x\n"), observing.ensure_role(name, name)) == (
        "created",
        "created",
    )
    assert ready.server.writes() == before
    assert (vault.ensure_policy(name, "# x\n"), vault.ensure_role(name, name)) == ("created", "created")
    assert (observing.ensure_policy(name, "# y\n"), observing.ensure_role(name, name)) == (
        "updated",
        "unchanged",
    )
