"""Secrets of a Fly app: which ones are not as they are here, and how they go through `fly secrets import` unharmed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets as random
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from prefect_platform.config.settings import Settings
from prefect_platform.config.stack import Stack
from prefect_platform.errors import PlatformError, PreflightError
from prefect_platform.files import read_mapping, write_atomic
from prefect_platform.secretstore.file_store import FileStore
from prefect_platform.secretstore.store import Secret, SecretStore, Values

from .flyctl import Json

_QUOTED = re.compile(r'"""(?P<a>.*)"""|"(?P<b>.*)"|\'(?P<c>.*)\'', re.DOTALL)
_LIMIT = 60_000


class LazyVaultStore(SecretStore):
    """A Vault's store, opened by its first use: `status` and `logs` need neither Vault nor a token for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _store(self) -> SecretStore:
        from prefect_platform.secretstore.vault.kv import Vault, VaultStore

        section, given = self._settings.values["vault"], os.environ.get("VAULT_TOKEN", "")
        if not given:
            raise PreflightError(
                "no token for Vault",
                f"VAULT_TOKEN=… ./invoke …: it reads and writes platform/{self._settings.env}/*",
            )
        ca_cert = str(self._settings.root / section["ca_cert"]) if section["ca_cert"] else None
        vault = Vault(section["address"], Secret(given), section["mount"], ca_cert)
        return VaultStore(vault, self._settings.env)

    def read(self, stack: str) -> dict[str, Secret]:
        return self._store.read(stack)

    def update(self, stack: str, change: Callable[[Values], Values]) -> None:
        self._store.update(stack, change)

    def version(self, stack: Stack) -> str:
        return self._store.version(stack)


def store_of(settings: Settings) -> SecretStore:
    """A Vault where `platform.vault.address` names one, else this clone's files."""
    if settings.values["vault"]["address"]:
        return LazyVaultStore(settings)
    return FileStore(settings.state / "secrets")


def line(name: str, value: str) -> str:
    """A line that `fly secrets import` reads back as it was. Raises PlatformError for what it cannot carry."""
    if "\n" in value or "\r" in value or len(value) > _LIMIT:
        raise PlatformError(
            f"secret {name}: `fly secrets import` takes one line of at most {_LIMIT} bytes",
            "store it in base64 and decode it where it is used",
        )
    for tried in (value, f'"{value}"', f'"""{value}"""'):
        if tried not in ('"', '""') and read(tried) == value:
            return f"{name}={tried}\n"
    raise PlatformError(f"secret {name}: cannot be encoded for `fly secrets import`", "take another value")


def read(text: str) -> str:
    """A value as flyctl's parser takes it: cut at an unquoted #, blanks before it gone, one pair of quotes off."""
    text = text.lstrip(" ")
    for at, char in enumerate(text):
        if char == "#" and text[:at].count('"') % 2 == 0:
            text = text[:at].rstrip(" ")
            break
    if text == '"""':
        return ""
    found = _QUOTED.fullmatch(text)
    return next(part for part in found.groups() if part is not None) if found else text


class Imported:
    """What was last imported: keyed hashes of our values, and Fly's own digests, so that a change on either side shows."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def _read(self) -> dict[str, dict[str, str]]:
        hint = f"rm {self.file}: setup then imports every secret once more"
        return dict(read_mapping(self.file, hint))

    def changed(
        self, store: SecretStore, stacks: Sequence[Stack], there: Mapping[str, Json]
    ) -> dict[str, str]:
        """Name → why it must be imported."""
        known, found = self._read(), {}
        for name, value in values(store, stacks).items():
            was = known.get(name, {})
            if name not in there:
                found[name] = "not there yet"
            elif was.get("ours") != self._hash(value):
                found[name] = "changed"
            elif was.get("theirs") != there[name].get("digest"):
                found[name] = "changed on Fly's side"
        return found

    def remember(self, imported: Mapping[str, str], there: Mapping[str, Json]) -> None:
        self._key()
        known = self._read()
        for name, value in imported.items():
            known[name] = {
                "ours": self._hash(value),
                "theirs": str(there.get(name, {}).get("digest", "")),
            }
        write_atomic(self.file, json.dumps(known, indent=1).encode())

    def _key(self) -> bytes:
        key = self.file.with_suffix(".key")
        if not key.exists():
            write_atomic(key, random.token_bytes(32))
        return key.read_bytes()

    def _hash(self, value: str) -> str:
        key = self.file.with_suffix(".key")
        return hashlib.blake2s(value.encode(), key=self._key() if key.exists() else b"").hexdigest()


def values(store: SecretStore, stacks: Sequence[Stack]) -> dict[str, str]:
    """Every secret of these stacks that there is here."""
    return {
        spec.name: held[spec.name].value
        for stack in stacks
        for held in [store.values(stack)]
        for spec in stack.secrets
        if spec.name in held
    }
