"""What every store of secrets does: generated once, never overwritten, never an argument of rendering."""

from __future__ import annotations

import base64
import json
import os
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from prefect_platform.config.stack import SecretSpec, Stack
from prefect_platform.errors import PlatformError, PreflightError

Values = dict[str, str]


@dataclass(frozen=True)
class Secret:
    """A value that neither `str` nor `repr` shows."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "********"


def _signing_key() -> dict[str, object]:
    # An Ed25519 private key is any 32 random bytes (RFC 8032 §5.1.5), so no cryptography package is needed here.
    return {"kid": secrets.token_hex(8), "d": secrets.token_urlsafe(32), "created": int(time.time())}


def generate(kind: str) -> str:
    """A new value: `fernet-key` (32 bytes, base64), `signing-keys` (JSON list of Ed25519 seeds, newest first), `password`;
    `key` is like a password, but what it protects would not survive a new one, so it is never rotated.
    """
    if kind == "fernet-key":
        return base64.urlsafe_b64encode(os.urandom(32)).decode()
    return json.dumps([_signing_key()]) if kind == "signing-keys" else secrets.token_urlsafe(32)


def rotated(keys: str, keep: int = 3) -> str:
    """The key list with a new first key; of the older ones, `keep` - 1 still verify."""
    return json.dumps([_signing_key(), *json.loads(keys)][:keep])


class SecretStore(ABC):
    """The secrets of an environment. A store implements `read`, `update` and `version`; the rules common to all are here."""

    @abstractmethod
    def read(self, stack: str) -> dict[str, Secret]:
        """A stack's own values by name; empty when it has none. Raises PlatformError when they cannot be read."""

    @abstractmethod
    def update(self, stack: str, change: Callable[[Values], Values]) -> None:
        """Replace a stack's own values by the result of `change`. It may be called again after a concurrent write."""

    @abstractmethod
    def version(self, stack: Stack) -> str:
        """Another text when a value of the stack, own or of another stack, is another one; says nothing about the values."""

    def merge(self, stack: str, values: Mapping[str, str]) -> None:
        """Set these values; the stack's others stay."""
        self.update(stack, lambda present: {**present, **values})

    def replace(self, stack: str, values: Mapping[str, str]) -> None:
        """Set these values and delete the stack's others."""
        self.update(stack, lambda present: dict(values))

    def values(self, stack: Stack) -> dict[str, Secret]:
        """The stack's own values and those of other stacks that it uses (`from: postgres/PASSWORD`), as far as they exist."""
        values = self.read(stack.name)
        others: dict[str, dict[str, Secret]] = {}
        for spec in stack.secrets:
            owner, _, name = spec.source.partition("/")
            if owner:
                if owner not in others:
                    others[owner] = self.read(owner)
                values.pop(spec.name, None)
                if name in others[owner]:
                    values[spec.name] = others[owner][name]
        return values

    def missing(self, stack: Stack) -> tuple[SecretSpec, ...]:
        present = self.values(stack)
        return tuple(spec for spec in stack.secrets if spec.name not in present)

    def ensure(self, stack: Stack) -> None:
        """Generate what is missing and can be generated. Raises PlatformError for another stack's secret that does not exist."""
        _require_sources(stack, self.missing(stack))
        kinds = {spec.name: spec.generate for spec in stack.secrets if spec.generate}

        def complete(present: Values) -> Values:
            return present | {name: generate(kind) for name, kind in kinds.items() if name not in present}

        if kinds:
            self.update(stack.name, complete)

    def store_given(self, stack: Stack, environ: Mapping[str, str]) -> None:
        """Store the values of `given` secrets that `environ` has. Raises PreflightError for one that was never given."""
        if any(spec.given for spec in stack.secrets):
            require_given(stack, self.read(stack.name), environ)
        if new := self.new_given(stack, environ):
            self.merge(stack.name, new)

    def new_given(self, stack: Stack, environ: Mapping[str, str]) -> Values:
        """What `store_given` would write: `given` secrets with another value than the stored one, or without one."""
        names = [spec.name for spec in stack.secrets if spec.given and environ.get(spec.name)]
        present = self.read(stack.name) if names else {}
        return {
            name: environ[name]
            for name in names
            if name not in present or present[name].value != environ[name]
        }


def require_given(stack: Stack, present: Collection[str], environ: Mapping[str, str]) -> None:
    """Raises PreflightError for a `given` secret that is neither among the names in `present` nor in `environ`."""
    for name in (spec.name for spec in stack.secrets if spec.given):
        if name not in present and not environ.get(name):
            raise PreflightError(
                f"secret {name} of stack {stack.name}: required, and cannot be generated",
                f"set it once, it is stored with the secrets: read -rs {name}; export {name}; ./invoke {stack.name}.setup",
            )


def _require_sources(stack: Stack, missing: tuple[SecretSpec, ...]) -> None:
    borrowed = [spec for spec in missing if spec.source]
    if borrowed:
        owner = borrowed[0].source.partition("/")[0]
        raise PlatformError(
            f"stack {stack.name}: secret {borrowed[0].name} comes from {borrowed[0].source}, which does not exist yet",
            f"./invoke {owner}.setup (with the same --env)",
        )
