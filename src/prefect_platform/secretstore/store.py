"""Secrets: generated once, never overwritten, never an argument of rendering. Here the file store of a single machine; Vault's is in vault.py."""

from __future__ import annotations

import base64
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from prefect_platform.config.stack import SecretSpec, Stack
from prefect_platform.errors import PlatformError, PreflightError


@dataclass(frozen=True)
class Secret:
    """A value that does not show itself."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "********"


def _signing_key() -> dict[str, object]:
    # An Ed25519 private key is any 32 random bytes (RFC 8032 §5.1.5), so no cryptography package is needed here.
    return {"kid": secrets.token_hex(8), "d": secrets.token_urlsafe(32), "created": int(time.time())}


def generate(kind: str) -> str:
    """A fresh value: `fernet-key` (32 bytes, base64), `signing-keys` (JSON list of Ed25519 seeds, newest first), `password`;
    `key` is like a password, but nothing follows when it changes: it keeps its value.
    """
    if kind == "fernet-key":
        return base64.urlsafe_b64encode(os.urandom(32)).decode()
    return json.dumps([_signing_key()]) if kind == "signing-keys" else secrets.token_urlsafe(32)


def rotated(keys: str, keep: int = 3) -> str:
    """The key list with a new first key; older ones go on verifying until `keep` is reached."""
    return json.dumps([_signing_key(), *json.loads(keys)][:keep])


class SecretStore(Protocol):
    """Where an environment's secrets are kept. `read` and `write` know a stack's own values, the others its references too."""

    def read(self, stack: str) -> dict[str, Secret]: ...
    def values(self, stack: Stack) -> dict[str, Secret]: ...
    def missing(self, stack: Stack) -> tuple[SecretSpec, ...]: ...
    def ensure(self, stack: Stack) -> None: ...
    def write(self, stack: str, values: Mapping[str, str]) -> None: ...
    def version(self, stack: Stack) -> str: ...


def resolved(store: SecretStore, stack: Stack) -> dict[str, Secret]:
    """The stack's own values and those that it takes from other stacks (`from: postgres/PASSWORD`), as far as they are there."""
    values = store.read(stack.name)
    others: dict[str, dict[str, Secret]] = {}
    for spec in stack.secrets:
        owner, _, name = spec.source.partition("/")
        if owner:
            if owner not in others:
                others[owner] = store.read(owner)
            values.pop(spec.name, None)
            if name in others[owner]:
                values[spec.name] = others[owner][name]
    return values


def require_sources(stack: Stack, missing: tuple[SecretSpec, ...]) -> None:
    """A secret of another stack cannot be generated here. Raises PlatformError naming whose it is."""
    lacking = [spec for spec in missing if spec.source]
    if lacking:
        owner = lacking[0].source.partition("/")[0]
        raise PlatformError(
            f"stack {stack.name}: secret {lacking[0].name} comes from {lacking[0].source}, which does not exist yet",
            f"./invoke {owner}.setup (with the same --env)",
        )


def keep_given(store: SecretStore, stack: Stack, environ: Mapping[str, str]) -> None:
    """Keep what a person gives with this call of the secrets that nobody can generate. Raises PreflightError for one never given."""
    wanted = [spec.name for spec in stack.secrets if spec.given]
    held = {name: secret.value for name, secret in store.read(stack.name).items()}
    now = held | {name: environ[name] for name in wanted if environ.get(name)}
    for name in wanted:
        if name not in now:
            raise PreflightError(
                f"secret {name} of stack {stack.name}: not given yet, and nobody can make it up",
                f"give it once, it is kept with the secrets: read -rs {name}; export {name}; ./invoke {stack.name}.setup",
            )
    if now != held:
        store.write(stack.name, now)
