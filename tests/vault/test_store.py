"""Secrets of an environment in a real Vault: made once, never overwritten, not lost between two writers."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import pytest

from prefect_platform.config.stack import SecretSpec
from prefect_platform.errors import PlatformError
from prefect_platform.secretstore.file_store import FileStore

from .conftest import Ready, make_stack


def _name() -> str:
    return f"stack-{uuid.uuid4().hex[:8]}"


def test_made_once_and_kept(ready: Ready) -> None:
    store, stack = (
        ready.store(),
        make_stack(_name(), SecretSpec("A", "password"), SecretSpec("B", "fernet-key")),
    )
    assert [spec.name for spec in store.missing(stack)] == ["A", "B"]
    assert store.version(stack) == ""
    store.ensure(stack)
    first = store.read(stack.name)
    assert sorted(first) == ["A", "B"]
    before = ready.server.writes()
    store.ensure(stack)
    assert store.read(stack.name) == first
    assert ready.server.writes() == before
    assert (store.missing(stack), store.version(stack)) == ((), f"{stack.name}:1")


def test_what_an_operator_gave_stays(ready: Ready) -> None:
    store, stack = (
        ready.store(),
        make_stack(_name(), SecretSpec("A", "password"), SecretSpec("B", "password")),
    )
    store.merge(stack.name, {"A": "given", "MORE": "kept"})
    store.ensure(stack)
    values = {name: secret.value for name, secret in store.read(stack.name).items()}
    assert (values["A"], values["MORE"], len(values["B"])) == ("given", "kept", 43)
    store.merge(stack.name, {"B": "new"})
    assert store.read(stack.name)["A"].value == "given"
    assert store.version(stack) == f"{stack.name}:3"


def test_a_reference_is_read_where_it_is(ready: Ready) -> None:
    store, owner = ready.store(), make_stack(_name(), SecretSpec("PASSWORD", "password"))
    stack = make_stack(
        _name(), SecretSpec("OWN", "password"), SecretSpec("DB_PASSWORD", "", f"{owner.name}/PASSWORD")
    )
    with pytest.raises(
        PlatformError, match=rf"comes from {owner.name}/PASSWORD[\s\S]*hint: ./invoke {owner.name}.setup"
    ):
        store.ensure(stack)
    assert store.read(stack.name) == {}
    store.ensure(owner)
    store.ensure(stack)
    assert sorted(store.read(stack.name)) == ["OWN"]
    assert store.values(stack)["DB_PASSWORD"] == store.read(owner.name)["PASSWORD"]
    version = store.version(stack)
    store.merge(owner.name, {"PASSWORD": "rotated"})
    assert store.version(stack) != version
    assert store.values(stack)["DB_PASSWORD"].value == "rotated"


def test_the_file_store_knows_references_too(tmp_path: Path) -> None:
    store, owner = FileStore(tmp_path), make_stack("owner", SecretSpec("PASSWORD", "password"))
    stack = make_stack("taker", SecretSpec("DB_PASSWORD", "", "owner/PASSWORD"))
    with pytest.raises(PlatformError, match="comes from owner/PASSWORD"):
        store.ensure(stack)
    store.ensure(owner)
    store.ensure(stack)
    version = store.version(stack)
    assert store.values(stack)["DB_PASSWORD"] == store.read("owner")["PASSWORD"]
    store.merge("owner", {"PASSWORD": "rotated"})
    assert store.version(stack) != version
    store.ensure(stack)
    assert "DB_PASSWORD='rotated'" in (tmp_path / "taker.env").read_text()


def test_environments_do_not_meet(ready: Ready) -> None:
    stack = make_stack(_name(), SecretSpec("A", "password"))
    for env in ("production", "staging"):
        ready.store(env).ensure(stack)
    assert ready.store("production").read(stack.name) != ready.store("staging").read(stack.name)


def test_writers_at_once_lose_nothing(ready: Ready) -> None:
    name, errors = _name(), []

    def write(number: int) -> None:
        try:
            ready.store().merge(name, {f"KEY_{number}": str(number)})
        except PlatformError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert {key: each.value for key, each in ready.store().read(name).items()} == {
        f"KEY_{n}": str(n) for n in range(8)
    }


def test_setups_at_once_agree_on_one_value(ready: Ready) -> None:
    stack = make_stack(_name(), *(SecretSpec(f"KEY_{n}", "password") for n in range(3)))
    threads = [threading.Thread(target=ready.store().ensure, args=(stack,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ready.store().version(stack) == f"{stack.name}:1"


def test_a_deleted_value_is_not_generated_anew(ready: Ready) -> None:
    store, stack = ready.store(), make_stack(_name(), SecretSpec("A", "password"))
    store.ensure(stack)
    path = f"secret/data/{store.path(stack.name)}"
    ready.root().client.call(lambda api: api.delete(path))
    with pytest.raises(
        PlatformError,
        match=r"newest version \(1\) was deleted; nothing was changed[\s\S]*bao kv undelete -versions=1",
    ):
        store.ensure(stack)


def test_a_value_that_no_process_could_get_is_told(ready: Ready) -> None:
    store, name = ready.store(), _name()
    body = {"data": {"NUMBER": 5}}
    ready.vault.client.call(lambda api: api.write_data(f"secret/data/{store.path(name)}", data=body))
    with pytest.raises(PlatformError, match="NUMBER is not text"):
        store.read(name)
