"""Vault or OpenBao as this platform uses it, and an environment's secrets in it, with the same interface as the file store."""

from __future__ import annotations

import time
from collections.abc import Callable

from prefect_platform.config.stack import Stack
from prefect_platform.errors import PlatformError
from prefect_platform.secretstore.store import Secret, SecretStore, Values

from .client import Conflict
from .server import Initialised, Status, VaultServer, role_name

__all__ = ["Initialised", "Status", "Vault", "VaultStore", "role_name"]

_ATTEMPTS = 20


class Vault(VaultServer):
    """The server and the values in its KV store at `mount`."""

    def read(self, path: str) -> dict[str, Secret]:
        return {name: Secret(value) for name, value in self._read(path)[0].items()}

    def version(self, path: str) -> int:
        """The newest version's number; 0 without one."""
        return self._read(path)[1]

    def update(self, path: str, change: Callable[[Values], Values]) -> int:
        """Read, change, and write unless another writer came between: then again. Returns the version; no difference writes nothing."""
        for attempt in range(_ATTEMPTS):
            present, version = self._read(path)
            wanted = change(dict(present))
            if wanted == present:
                return version
            try:
                return self._write(path, wanted, version)
            except Conflict:
                time.sleep(0.02 * attempt)
        raise Conflict(
            f"Vault at {self.client.address}: {self.mount}/{path}: other writers keep changing it",
            "run the command again",
        )

    def _write(self, path: str, values: Values, version: int) -> int:
        """Raises Conflict when `version` is no longer the newest."""
        answer = self.client.call(
            lambda api: api.secrets.kv.v2.create_or_update_secret(
                path, values, cas=version, mount_point=self.mount
            )
        )
        return int(answer["data"]["version"])

    def _read(self, path: str) -> tuple[Values, int]:
        answer = self.client.find(
            lambda api: api.secrets.kv.v2.read_secret(
                path, mount_point=self.mount, raise_on_deleted_version=False
            )
        )
        if answer is None:
            return {}, 0
        values, about = answer["data"]["data"], answer["data"]["metadata"]
        version, place = int(about["version"]), f"Vault at {self.client.address}: {self.mount}/{path}"
        if values is None:
            # New values here would make everything unreadable that the old ones protect.
            raise PlatformError(
                f"{place}: its newest version ({version}) was deleted; nothing was changed",
                f"bring it back: bao kv undelete -versions={version} {self.mount}/{path}; "
                f"or start with new values: bao kv metadata delete {self.mount}/{path}, then setup",
            )
        wrong = sorted(name for name, value in values.items() if not isinstance(value, str) or "\0" in value)
        if wrong:
            raise PlatformError(
                f"{place}: {wrong[0]} is not text that fits an environment variable; nothing was changed",
                f"bao kv patch {self.mount}/{path} {wrong[0]}=…",
            )
        return dict(values), version


class VaultStore(SecretStore):
    """A stack's values at `<mount>/platform/<env>/<stack>`. Setups at the same time agree on one value: writes are check-and-set."""

    def __init__(self, vault: Vault, env: str) -> None:
        self.vault = vault
        self.env = env

    def path(self, stack: str) -> str:
        return f"platform/{self.env}/{stack}"

    def read(self, stack: str) -> dict[str, Secret]:
        return self.vault.read(self.path(stack))

    def update(self, stack: str, change: Callable[[Values], Values]) -> None:
        self.vault.update(self.path(stack), change)

    def version(self, stack: Stack) -> str:
        # The numbers of the stack's own path, then of each stack that it takes some from; empty when nothing exists.
        owners = sorted({spec.source.partition("/")[0] for spec in stack.secrets if spec.source})
        numbers = [(owner, self.vault.version(self.path(owner))) for owner in (stack.name, *owners)]
        return " ".join(f"{owner}:{number}" for owner, number in numbers if number)
