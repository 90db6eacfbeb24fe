"""What every store of secrets does, asked of files and of a real Vault alike."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from prefect_platform.config.stack import SecretSpec, Stack
from prefect_platform.errors import PlatformError, PreflightError
from prefect_platform.secretstore.file_store import FileStore
from prefect_platform.secretstore.store import SecretStore

from .conftest import Ready, make_stack


@pytest.fixture(params=["file", "vault"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SecretStore:
    if request.param == "file":
        return FileStore(tmp_path)
    ready: Ready = request.getfixturevalue("ready")
    return ready.store()


def _stack(*secrets: SecretSpec) -> Stack:
    return make_stack(f"c-{uuid.uuid4().hex[:8]}", *secrets)


def _plain(store: SecretStore, stack: Stack) -> dict[str, str]:
    return {name: secret.value for name, secret in store.read(stack.name).items()}


def test_merge_keeps_what_it_does_not_name(store: SecretStore) -> None:
    stack = _stack()
    store.merge(stack.name, {"A": "1", "B": "2"})
    store.merge(stack.name, {"B": "3", "C": "4"})
    assert _plain(store, stack) == {"A": "1", "B": "3", "C": "4"}


def test_replace_leaves_nothing_else(store: SecretStore) -> None:
    stack = _stack()
    store.merge(stack.name, {"A": "1", "B": "2"})
    store.replace(stack.name, {"B": "3"})
    assert _plain(store, stack) == {"B": "3"}
    store.replace(stack.name, {})
    assert _plain(store, stack) == {}


def test_ensure_generates_once_and_overwrites_nothing(store: SecretStore) -> None:
    stack = _stack(SecretSpec("A", "password"), SecretSpec("B", "fernet-key"))
    store.merge(stack.name, {"A": "chosen", "MORE": "kept"})
    assert [spec.name for spec in store.missing(stack)] == ["B"]
    store.ensure(stack)
    first, version = _plain(store, stack), store.version(stack)
    assert (first["A"], first["MORE"], sorted(first)) == ("chosen", "kept", ["A", "B", "MORE"])
    store.ensure(stack)
    assert (_plain(store, stack), store.version(stack), store.missing(stack)) == (first, version, ())


def test_ensure_never_generates_a_given_secret(store: SecretStore) -> None:
    stack = _stack(SecretSpec("GENERATED", "password"), SecretSpec("TYPED", "", given="url"))
    store.ensure(stack)
    assert list(_plain(store, stack)) == ["GENERATED"]
    assert [spec.name for spec in store.missing(stack)] == ["TYPED"]


def test_a_given_secret_is_stored_once_and_replaced_when_given_again(store: SecretStore) -> None:
    stack = _stack(SecretSpec("TYPED", "", given="url"), SecretSpec("GENERATED", "password"))
    store.ensure(stack)
    with pytest.raises(PreflightError, match=r"required, and cannot be generated\nhint: .*export TYPED"):
        store.store_given(stack, {"GENERATED": "not one that is given"})
    store.store_given(stack, {"TYPED": "first"})
    store.store_given(stack, {})
    generated = _plain(store, stack)["GENERATED"]
    assert _plain(store, stack) == {"GENERATED": generated, "TYPED": "first"}
    store.store_given(stack, {"TYPED": "second"})
    store.ensure(stack)
    assert _plain(store, stack) == {"GENERATED": generated, "TYPED": "second"}


def test_another_stacks_secret_is_read_where_it_is(store: SecretStore) -> None:
    owner = _stack(SecretSpec("PASSWORD", "password"))
    stack = _stack(SecretSpec("OWN", "password"), SecretSpec("DB", "", f"{owner.name}/PASSWORD"))
    with pytest.raises(PlatformError, match=f"comes from {owner.name}/PASSWORD, which does not exist yet"):
        store.ensure(stack)
    assert _plain(store, stack) == {}
    store.ensure(owner)
    store.ensure(stack)
    version = store.version(stack)
    store.merge(owner.name, {"PASSWORD": "rotated"})
    assert sorted(_plain(store, stack)) == ["OWN"]
    assert store.values(stack)["DB"].value == "rotated"
    assert store.version(stack) != version


def test_a_merge_leaves_other_stacks_values_in_the_file_that_processes_load(tmp_path: Path) -> None:
    store, owner = FileStore(tmp_path), _stack(SecretSpec("PASSWORD", "password"))
    stack = _stack(SecretSpec("OWN", "password"), SecretSpec("DB", "", f"{owner.name}/PASSWORD"))
    store.merge(owner.name, {"PASSWORD": "it's"})
    store.ensure(stack)
    store.merge(stack.name, {"OWN": "new\nline"})
    lines = (tmp_path / f"{stack.name}.env").read_text()
    assert "OWN='new\nline'" in lines
    assert "DB='it'\\''s'" in lines
