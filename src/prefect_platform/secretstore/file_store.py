"""Secrets in 0600 files of a single machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from prefect_platform.config.stack import SecretSpec, Stack
from prefect_platform.errors import PlatformError
from prefect_platform.files import read_mapping, write_atomic
from prefect_platform.secretstore.store import Secret, generate, require_sources, resolved


def env_line(name: str, value: str) -> str:
    """A line that `sh` reads back byte for byte: single quotes keep everything but themselves."""
    return f"{name}='" + value.replace("'", "'\\''") + "'\n"


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

    def values(self, stack: Stack) -> dict[str, Secret]:
        return resolved(self, stack)

    def missing(self, stack: Stack) -> tuple[SecretSpec, ...]:
        have = self.values(stack)
        return tuple(spec for spec in stack.secrets if spec.name not in have)

    def ensure(self, stack: Stack) -> None:
        """Generate what is missing and (re)write the env file. Raises PlatformError for a reference to what is not there."""
        missing = self.missing(stack)
        require_sources(stack, missing)
        values = {name: secret.value for name, secret in self.values(stack).items()}
        values |= {spec.name: generate(spec.generate) for spec in missing if not spec.given}
        if stack.secrets:
            self.write(stack.name, values)

    def write(self, stack: str, values: Mapping[str, str]) -> None:
        """Store values: the JSON file first, it is the truth the env file follows."""
        write_atomic(self.folder / f"{stack}.json", json.dumps(dict(values), indent=1).encode(), 0o600)
        env = "".join(env_line(name, value) for name, value in values.items())
        write_atomic(self.folder / f"{stack}.env", env.encode(), 0o600)

    def version(self, stack: Stack) -> str:
        """Changes when a value of the stack changes. A keyed hash: it says nothing about the values."""
        values = {name: secret.value for name, secret in self.values(stack).items()}
        if not values:
            return ""
        key = hashlib.sha256(json.dumps(sorted(values.values())).encode()).digest()
        return hashlib.blake2s(json.dumps(sorted(values)).encode(), key=key, digest_size=6).hexdigest()
