"""Secrets: generated once, never overwritten, never an argument of rendering. Here the file store of a single machine."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .errors import PlatformError
from .files import read_mapping, write_atomic
from .stack import SecretSpec, Stack


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
    """A fresh value: `fernet-key` (32 bytes, base64), `signing-keys` (JSON list of Ed25519 seeds, newest first), `password`."""
    if kind == "fernet-key":
        return base64.urlsafe_b64encode(os.urandom(32)).decode()
    return json.dumps([_signing_key()]) if kind == "signing-keys" else secrets.token_urlsafe(32)


def rotated(keys: str, keep: int = 3) -> str:
    """The key list with a new first key; older ones go on verifying until `keep` is reached."""
    return json.dumps([_signing_key(), *json.loads(keys)][:keep])


def env_line(name: str, value: str) -> str:
    """A line that `sh` reads back byte for byte: single quotes keep everything but themselves."""
    return f"{name}='" + value.replace("'", "'\\''") + "'\n"


class SecretStore(Protocol):
    """Where a stack's secrets are kept: read, made once, written."""

    def read(self, stack: str) -> dict[str, Secret]: ...
    def missing(self, stack: Stack) -> tuple[SecretSpec, ...]: ...
    def ensure(self, stack: Stack) -> None: ...
    def write(self, stack: str, values: Mapping[str, str]) -> None: ...
    def version(self, stack: Stack) -> str: ...


class FileStore:
    """`<state>/secrets/<stack>.json` (0600) holds values; `<stack>.env` beside it is what an entrypoint loads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, stack: str) -> dict[str, Secret]:
        """Values by name. Raises PlatformError when the file cannot be understood: overwriting it would lose keys."""
        file = self.folder / f"{stack}.json"
        aside = f"mv {file} {file}.broken, then setup"
        hint = (
            f"{aside}: the platform makes itself a new token"
            if stack == "operator"
            else f"restore it from a backup; or start with new secrets (tokens end, stored blocks become unreadable): {aside}"
        )
        data = read_mapping(file, hint)
        if not all(value and isinstance(value, str) for value in data.values()):
            raise PlatformError(f"{file}: corrupt, holds a value that is no text; nothing was changed", hint)
        return {name: Secret(value) for name, value in data.items()}

    def missing(self, stack: Stack) -> tuple[SecretSpec, ...]:
        have = self.read(stack.name)
        return tuple(spec for spec in stack.secrets if spec.name not in have)

    def ensure(self, stack: Stack) -> None:
        """Generate what is missing and (re)write the env file."""
        values = {name: secret.value for name, secret in self.read(stack.name).items()}
        for spec in stack.secrets:
            values.setdefault(spec.name, generate(spec.generate))
        if stack.secrets:
            self.write(stack.name, values)

    def write(self, stack: str, values: Mapping[str, str]) -> None:
        """Store values: the JSON file first, it is the truth the env file follows."""
        write_atomic(self.folder / f"{stack}.json", json.dumps(dict(values), indent=1).encode(), 0o600)
        env = "".join(env_line(name, value) for name, value in values.items())
        write_atomic(self.folder / f"{stack}.env", env.encode(), 0o600)

    def version(self, stack: Stack) -> str:
        """Changes when a value of the stack changes. A keyed hash: it says nothing about the values."""
        values = {name: secret.value for name, secret in self.read(stack.name).items()}
        if not values:
            return ""
        key = hashlib.sha256(json.dumps(sorted(values.values())).encode()).digest()
        return hashlib.blake2s(json.dumps(sorted(values)).encode(), key=key, digest_size=6).hexdigest()
