"""Secrets in 0600 files of a single machine."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from prefect_platform.config.stack import Stack
from prefect_platform.errors import PlatformError
from prefect_platform.files import read_mapping, write_atomic
from prefect_platform.secretstore.store import Secret, SecretStore, Values


def env_line(name: str, value: str) -> str:
    """A line that `sh` reads back byte for byte: single quotes keep everything but themselves."""
    return f"{name}='" + value.replace("'", "'\\''") + "'\n"


def wrong_mode(file: Path) -> str:
    """What is wrong with the mode of a file that only its user reads and writes; empty when it is 600."""
    mode = file.stat().st_mode & 0o777
    return "" if mode == 0o600 else f"its mode is {mode:03o}, not 600"


def _lines(file: Path) -> Values:
    """The values of an env file; none of one that no shell would read."""
    try:
        pairs = (line.partition("=") for line in shlex.split(file.read_text()))
    except ValueError:
        return {}
    return {name: value for name, _, value in pairs}


class FileStore(SecretStore):
    """`<state>/secrets/<stack>.json` (0600) stores values; an entrypoint loads `<stack>.env` beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, stack: str) -> dict[str, Secret]:
        # A file that cannot be understood is never overwritten: that would lose keys.
        file = self.folder / f"{stack}.json"
        aside = f"mv {file} {file}.broken, then setup"
        hint = (
            f"{aside}: the platform issues itself a new token"
            if stack == "operator"
            else f"restore it from a backup; or start with new secrets (tokens stop working, stored blocks become unreadable): {aside}"
        )
        data = read_mapping(file, hint)
        if not all(value and isinstance(value, str) for value in data.values()):
            raise PlatformError(f"{file}: corrupt, a value is not text; nothing was changed", hint)
        return {name: Secret(value) for name, value in data.items()}

    def update(self, stack: str, change: Callable[[Values], Values]) -> None:
        before = {name: secret.value for name, secret in self.read(stack).items()}
        after, borrowed = change(dict(before)), self._borrowed(stack, before)
        if after != before:
            # The JSON file first: it is the truth that the env file follows.
            write_atomic(self.folder / f"{stack}.json", json.dumps(after, indent=1).encode(), 0o600)
        self._publish(stack, borrowed | after)

    def ensure(self, stack: Stack) -> None:
        super().ensure(stack)
        if stack.secrets:
            self._publish(stack.name, {name: secret.value for name, secret in self.values(stack).items()})

    def _publish(self, stack: str, values: Mapping[str, str]) -> None:
        env = "".join(env_line(name, value) for name, value in values.items()).encode()
        file = self.folder / f"{stack}.env"
        if not file.exists() or wrong_mode(file) or file.read_bytes() != env:
            write_atomic(file, env, 0o600)

    def published(self, stack: Stack) -> str:
        """Why the stack's env file has to be written again; empty when it is as `ensure` leaves it, or secrets are still missing."""
        if not stack.secrets or self.missing(stack):
            return ""
        file = self.folder / f"{stack.name}.env"
        if not file.exists():
            return "missing"
        values = {name: secret.value for name, secret in self.values(stack).items()}
        return wrong_mode(file) or ("" if _lines(file) == values else "changed")

    def _borrowed(self, stack: str, own: Mapping[str, str]) -> Values:
        """What `ensure` put into the env file from other stacks."""
        file = self.folder / f"{stack}.env"
        lines = _lines(file) if file.exists() else {}
        return {name: value for name, value in lines.items() if name not in own}

    def version(self, stack: Stack) -> str:
        # A keyed hash, so that it says nothing about the values.
        values = {name: secret.value for name, secret in self.values(stack).items()}
        if not values:
            return ""
        key = hashlib.sha256(json.dumps(sorted(values.values())).encode()).digest()
        return hashlib.blake2s(json.dumps(sorted(values)).encode(), key=key, digest_size=6).hexdigest()
