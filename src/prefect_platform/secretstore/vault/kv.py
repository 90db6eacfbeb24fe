"""Vault or OpenBao as this platform uses it, and an environment's secrets in it, with the same interface as the file store."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from prefect_platform.config.stack import SecretSpec, Stack
from prefect_platform.errors import PlatformError
from prefect_platform.secretstore.store import Secret, generate, require_sources, resolved

from .client import Conflict
from .server import Initialised, Status, VaultServer, role_name

__all__ = ["Initialised", "Status", "Vault", "VaultStore", "role_name"]

_ATTEMPTS = 20

Values = dict[str, str]


class Vault(VaultServer):
    """The server and the values in its KV store at `mount`."""

    def read(self, path: str) -> dict[str, Secret]:
        return {name: Secret(value) for name, value in self._read(path)[0].items()}

    def version(self, path: str) -> int:
        """Of the newest version; 0 when there is none."""
        return self._read(path)[1]

    def write(self, path: str, values: Mapping[str, str]) -> int:
        """Put these values beside those that are there; returns the version."""
        return self.update(path, lambda there: {**there, **values})

    def update(self, path: str, change: Callable[[Values], Values]) -> int:
        """Read, change, write if nobody wrote in between, else all over again; returns the version. No difference writes nothing."""
        for attempt in range(_ATTEMPTS):
            there, version = self._read(path)
            wanted = change(dict(there))
            if wanted == there:
                return version
            try:
                answer = self.client.post(
                    f"{self.mount}/data/{path}", {"options": {"cas": version}, "data": wanted}
                )
                return int(answer["data"]["version"])
            except Conflict:
                time.sleep(0.02 * attempt)
        raise Conflict(
            f"Vault at {self.client.address}: {self.mount}/{path}: somebody writes there all the time",
            "run the command again",
        )

    def _read(self, path: str) -> tuple[Values, int]:
        answer = self.client.get(f"{self.mount}/data/{path}")
        if answer is None:
            return {}, 0
        values, about = answer["data"]["data"], answer["data"]["metadata"]
        version, place = int(about["version"]), f"Vault at {self.client.address}: {self.mount}/{path}"
        if values is None:
            # To generate new values here would make everything unreadable that the old ones protect.
            raise PlatformError(
                f"{place}: its newest version ({version}) was deleted; nothing was changed",
                f"bring it back: bao kv undelete -versions={version} {self.mount}/{path}; "
                f"or start with new values: bao kv metadata delete {self.mount}/{path}, then setup",
            )
        wrong = sorted(name for name, value in values.items() if not isinstance(value, str) or "\0" in value)
        if wrong:
            raise PlatformError(
                f"{place}: {wrong[0]} is not a text that a process could be given; nothing was changed",
                f"bao kv patch {self.mount}/{path} {wrong[0]}=…",
            )
        return dict(values), version


class VaultStore:
    """A stack's values lie at `<mount>/platform/<env>/<stack>`, made once and never overwritten, whoever else sets up meanwhile."""

    def __init__(self, vault: Vault, env: str) -> None:
        self.vault = vault
        self.env = env

    def path(self, stack: str) -> str:
        return f"platform/{self.env}/{stack}"

    def read(self, stack: str) -> dict[str, Secret]:
        return self.vault.read(self.path(stack))

    def values(self, stack: Stack) -> dict[str, Secret]:
        return resolved(self, stack)

    def missing(self, stack: Stack) -> tuple[SecretSpec, ...]:
        have = self.values(stack)
        return tuple(spec for spec in stack.secrets if spec.name not in have)

    def ensure(self, stack: Stack) -> None:
        """Generate what is missing. Raises PlatformError for a reference to what is not there."""
        require_sources(stack, self.missing(stack))

        def filled(there: Values) -> Values:
            own = {spec.name: spec.generate for spec in stack.secrets if not spec.source}
            return there | {name: generate(kind) for name, kind in own.items() if name not in there}

        self.vault.update(self.path(stack.name), filled)

    def write(self, stack: str, values: Mapping[str, str]) -> None:
        """Put these values beside those that are there."""
        self.vault.write(self.path(stack), values)

    def version(self, stack: Stack) -> str:
        """Version numbers: of the stack's own values, then of each stack it takes some from. Empty when there is nothing."""
        owners = sorted({spec.source.partition("/")[0] for spec in stack.secrets if spec.source})
        numbers = [(owner, self.vault.version(self.path(owner))) for owner in (stack.name, *owners)]
        return " ".join(f"{owner}:{number}" for owner, number in numbers if number)
