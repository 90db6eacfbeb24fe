"""The administration of a Vault: its state, mounts, policies, the logins of agents, tokens. Each `ensure_…` writes only a difference."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect_platform.errors import ConfigError, PlatformError
from prefect_platform.secretstore.store import Secret

from .client import Client

OPERATOR_POLICY = "platform-operator"
_APPROLE = "approle"
# An agent whose token was revoked, or is unknown to a Vault restored from a backup, notices at the next renewal only (OpenBao 2.7.2).
_TOKEN_SECONDS = 300
_OPERATOR_SECONDS = 365 * 86400
_HEALTH = {"standbyok": "true", "sealedcode": "200", "uninitcode": "200", "performancestandbyok": "true"}


@dataclass(frozen=True)
class Status:
    """What a Vault says of itself to anybody. `standby`: it has no leader yet (a second after its start) or is not it."""

    initialised: bool
    sealed: bool
    standby: bool
    version: str

    @property
    def ready(self) -> bool:
        return self.initialised and not self.sealed and not self.standby


@dataclass(frozen=True)
class Initialised:
    """The answer that Vault gives once in its life."""

    root_token: Secret
    recovery_keys: tuple[Secret, ...]
    threshold: int


def role_name(env: str, stack: str) -> str:
    """Of a stack's policy and role. The dot stands in no name: environment `a` with stack `b-c` is not `a-b` with `c`."""
    return f"platform-{env}.{stack}"


class VaultServer:
    """A Vault and a token. Every error is a PlatformError that says what to do; none holds a value."""

    def __init__(
        self, address: str, token: Secret | None, mount: str = "secret", ca_cert: str | None = None
    ) -> None:
        self.mount = mount
        self.client = Client(address, token, ca_cert)

    # -- the server
    def status(self) -> Status:
        """Raises PlatformError when it cannot be reached."""
        said = self.client.get("sys/health", _HEALTH) or {}
        return Status(
            bool(said.get("initialized")),
            bool(said.get("sealed", True)),
            bool(said.get("standby", True)),
            str(said.get("version", "")),
        )

    def initialise(self, shares: int = 3, threshold: int = 2) -> Initialised:
        """Once, for a Vault that unseals itself: the keys are for recovery alone."""
        answer = self.client.post("sys/init", {"recovery_shares": shares, "recovery_threshold": threshold})
        keys = tuple(Secret(key) for key in answer.get("recovery_keys_base64", ()))
        return Initialised(Secret(answer["root_token"]), keys, threshold)

    def ensure_kv(self) -> str:
        """KV version 2 at the mount."""
        there = self._mounted(self.mount)
        if there is None:
            self.client.post(f"sys/mounts/{self.mount}", {"type": "kv", "options": {"version": "2"}})
            return "created"
        if there["type"] != "kv" or (there["options"] or {}).get("version") != "2":
            raise PlatformError(
                f"Vault at {self.client.address}: {self.mount}/ is not a KV store of version 2",
                f"choose another platform.vault.mount, or: bao kv enable-versioning {self.mount}/",
            )
        return "unchanged"

    def require_mounts(self) -> None:
        """Both are there, for this token. Raises PlatformError with what an administrator has to do."""
        for path, enable in (
            (self.mount, f"bao secrets enable -path={self.mount} -version=2 kv"),
            (f"auth/{_APPROLE}", f"bao auth enable {_APPROLE}"),
        ):
            if self._mounted(path) is None:
                raise PlatformError(
                    f"Vault at {self.client.address}: nothing is mounted at {path}/, or the token may use nothing below it",
                    f"an administrator does: {enable}; and gives the token vault/operator-policy.hcl",
                )

    def ensure_approle(self) -> str:
        if self._mounted(f"auth/{_APPROLE}") is not None:
            return "unchanged"
        self.client.post(f"sys/auth/{_APPROLE}", {"type": "approle"})
        return "created"

    def _mounted(self, path: str) -> dict[str, Any] | None:
        # Answers everybody who may use something below, so the operator's token needs no right on sys/mounts.
        try:
            found = self.client.get(f"sys/internal/ui/mounts/{path}")
        except PlatformError:
            if not self.client.token_works():
                raise
            return None
        return found["data"] if found else None

    def ensure_audit(self) -> str:
        """An audit log. OpenBao takes it from its configuration alone (2.7); HashiCorp Vault from this call alone."""
        if (self.client.get("sys/audit") or {}).get("data"):
            return "unchanged"
        self.client.post("sys/audit/stdout", {"type": "file", "options": {"file_path": "stdout"}})
        return "created"

    def policy(self, name: str) -> str | None:
        found = self.client.get(f"sys/policies/acl/{name}")
        return str(found["data"]["policy"]) if found else None

    def ensure_policy(self, name: str, text: str) -> str:
        found = self.policy(name)
        if found == text:
            return "unchanged"
        self.client.post(f"sys/policies/acl/{name}", {"policy": text})
        return "created" if found is None else "updated"

    # -- the login of agents
    def ensure_role(self, name: str, policy: str) -> str:
        path = f"auth/{_APPROLE}/role/{name}"
        found = self.client.get(path)
        wanted = {
            "token_policies": [policy],
            "token_ttl": _TOKEN_SECONDS,
            "token_max_ttl": 0,
            "token_type": "service",
            "bind_secret_id": True,
            # An agent must be able to log in after any reboot, years later. What ends a secret-id is the next one.
            "secret_id_ttl": 0,
            "secret_id_num_uses": 0,
        }
        if found and all(found["data"].get(key) == value for key, value in wanted.items()):
            return "unchanged"
        self.client.post(path, wanted)
        return "updated" if found else "created"

    def drop_role(self, name: str) -> None:
        """The role, with every login that was made for it, and its policy of the same name."""
        self.client.call("delete", f"auth/{_APPROLE}/role/{name}")
        self.client.call("delete", f"sys/policies/acl/{name}")

    def role_id(self, name: str) -> str:
        answer = self.client.get(f"auth/{_APPROLE}/role/{name}/role-id")
        if answer is None:
            raise PlatformError(
                f"Vault at {self.client.address}: no role {name}", "run the stack's setup again"
            )
        return str(answer["data"]["role_id"])

    def new_secret_id(self, name: str) -> Secret:
        answer = self.client.post(f"auth/{_APPROLE}/role/{name}/secret-id", {})
        return Secret(answer["data"]["secret_id"])

    def secret_id_works(self, name: str, secret_id: Secret) -> bool:
        return self._secret_id_accessor(name, secret_id) is not None

    def drop_other_secret_ids(self, name: str, keep: Secret) -> int:
        """End every other login of the role, once the new one is where it belongs; returns how many there were."""
        path = f"auth/{_APPROLE}/role/{name}"
        kept = self._secret_id_accessor(name, keep)
        listed = self.client.call("list", f"{path}/secret-id")
        others = [each for each in (listed or {"data": {"keys": []}})["data"]["keys"] if each != kept]
        for accessor in others:
            self.client.post(f"{path}/secret-id-accessor/destroy", {"secret_id_accessor": accessor})
        return len(others)

    def _secret_id_accessor(self, name: str, secret_id: Secret) -> str | None:
        path = f"auth/{_APPROLE}/role/{name}/secret-id/lookup"
        found = self.client.post(path, {"secret_id": secret_id.value}).get("data")
        return found["secret_id_accessor"] if found else None

    # -- tokens
    def token_works(self) -> bool:
        return self.client.token_works()

    def token_policies(self) -> list[str]:
        return list((self.client.get("auth/token/lookup-self") or {"data": {}})["data"].get("policies", ()))

    def create_operator_token(self) -> Secret:
        """One that outlives the token that made it, and itself as long as it is used once a year."""
        body = {
            "policies": [OPERATOR_POLICY],
            "no_parent": True,
            "period": f"{_OPERATOR_SECONDS}s",
            "display_name": OPERATOR_POLICY,
        }
        return Secret(self.client.post("auth/token/create", body)["auth"]["client_token"])

    def drop_other_operator_tokens(self, keep: Secret) -> int:
        """End those that an interrupted setup made and could not note down."""
        kept = self.client.post("auth/token/lookup", {"token": keep.value})["data"]["accessor"]
        listed = self.client.call("list", "auth/token/accessors") or {"data": {"keys": []}}
        ended = 0
        for accessor in listed["data"]["keys"]:
            about = self.client.post("auth/token/lookup-accessor", {"accessor": accessor})["data"]
            if about["display_name"] == f"token-{OPERATOR_POLICY}" and accessor != kept:
                self.client.post("auth/token/revoke-accessor", {"accessor": accessor})
                ended += 1
        return ended

    def keep_token(self) -> bool:
        """Renew the token when half of its time is over; returns whether that was so."""
        about = (self.client.get("auth/token/lookup-self") or {"data": {}})["data"]
        # Not its period: Vault gives less than that where its own limit (max_lease_ttl) is lower.
        if not about.get("renewable") or not about.get("period") or about["ttl"] > about["creation_ttl"] / 2:
            return False
        self.client.post("auth/token/renew-self", {})
        return True

    def generate_root(self, keys: Sequence[Secret]) -> Secret:
        """A new root token from enough recovery keys: for the day when every other token is lost."""
        path = "sys/generate-root"
        self.client.call("delete", f"{path}/attempt")  # one that somebody began and did not finish
        begun = self.client.post(f"{path}/attempt", {})
        answer = begun
        for key in keys:
            if not answer.get("complete"):
                answer = self.client.post(f"{path}/update", {"key": key.value, "nonce": begun["nonce"]})
        if not answer.get("complete"):
            raise ConfigError(
                f"Vault at {self.client.address}: {len(keys)} recovery keys given, {begun['required']} are needed",
                "give each of them once",
            )
        hidden = base64.b64decode(answer["encoded_token"] + "==")
        return Secret(bytes(a ^ b for a, b in zip(hidden, begun["otp"].encode(), strict=True)).decode())

    def revoke_token(self) -> None:
        """End the token that this object uses."""
        self.client.post("auth/token/revoke-self", {})
