"""The administration of a Vault by hvac's API classes: state, mounts, policies, AppRole, tokens. Each `ensure_…` writes only
a difference and returns "created", "updated" or "unchanged"; while `observing` it writes nothing and returns what it would do.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from prefect_platform.errors import ConfigError, PlatformError
from prefect_platform.secretstore.store import Secret

from .client import Client

OPERATOR_POLICY = "platform-operator"
_APPROLE = "approle"
# An agent whose token was revoked, or is unknown to a Vault restored from a backup, notices at the next renewal only (OpenBao 2.7.2).
_TOKEN_SECONDS = 300
_OPERATOR_SECONDS = 365 * 86400
_HEALTH = dict.fromkeys(("standby_code", "performance_standby_code", "sealed_code", "uninit_code"), 200)


@dataclass(frozen=True)
class Status:
    """A Vault's own state, readable without a token. `standby`: it has no leader yet (a second after its start) or is not the leader."""

    initialised: bool
    sealed: bool
    standby: bool
    version: str

    @property
    def ready(self) -> bool:
        return self.initialised and not self.sealed and not self.standby


@dataclass(frozen=True)
class Initialised:
    """What Vault answers once in its life."""

    root_token: Secret
    recovery_keys: tuple[Secret, ...]
    threshold: int


def role_name(env: str, stack: str) -> str:
    """Of a stack's policy and role. No name has a dot: environment `a` with stack `b-c` is not `a-b` with `c`."""
    return f"platform-{env}.{stack}"


class VaultServer:
    """A Vault and a token. Every error is a PlatformError with the next command; none contains a value."""

    def __init__(
        self,
        address: str,
        token: Secret | None,
        mount: str = "secret",
        ca_cert: str | None = None,
        *,
        observing: bool = False,
    ) -> None:
        self.mount = mount
        self.client = Client(address, token, ca_cert, observing=observing)

    # -- the server
    def status(self) -> Status:
        """Raises PlatformError when it cannot be reached."""
        said = self.client.call(lambda api: api.sys.read_health_status(method="GET", **_HEALTH))
        if not isinstance(said, dict):
            raise PlatformError(
                f"Vault at {self.client.address}: answers HTTP {said.status_code}, not with its state",
                "is it a Vault, and http or https? platform.vault.address",
            )
        return Status(
            bool(said.get("initialized")),
            bool(said.get("sealed", True)),
            bool(said.get("standby", True)),
            str(said.get("version", "")),
        )

    def initialise(self, shares: int = 3, threshold: int = 2) -> Initialised:
        """Once, for a Vault that unseals itself: the keys are for recovery alone."""
        answer = self.client.call(
            lambda api: api.sys.initialize(recovery_shares=shares, recovery_threshold=threshold)
        )
        keys = tuple(Secret(key) for key in answer.get("recovery_keys_base64", ()))
        return Initialised(Secret(answer["root_token"]), keys, threshold)

    def ensure_kv(self) -> str:
        """KV version 2 at the mount."""
        present = self._mounted(self.mount)
        if present is None:
            self.client.write(
                lambda api: api.sys.enable_secrets_engine("kv", self.mount, options={"version": "2"})
            )
            return "created"
        if present["type"] != "kv" or (present["options"] or {}).get("version") != "2":
            raise PlatformError(
                f"Vault at {self.client.address}: {self.mount}/ is not a KV store of version 2",
                f"choose another platform.vault.mount, or: bao kv enable-versioning {self.mount}/",
            )
        return "unchanged"

    def require_mounts(self) -> None:
        """Raises PlatformError, with the administrator's command, unless the token can use the KV store and AppRole."""
        for path, enable in (
            (self.mount, f"bao secrets enable -path={self.mount} -version=2 kv"),
            (f"auth/{_APPROLE}", f"bao auth enable {_APPROLE}"),
        ):
            if self._mounted(path) is None:
                raise PlatformError(
                    f"Vault at {self.client.address}: nothing is mounted at {path}/, or the token has no rights below it",
                    f"an administrator runs: {enable}; and gives the token vault/operator-policy.hcl",
                )

    def ensure_approle(self) -> str:
        if self._mounted(f"auth/{_APPROLE}") is not None:
            return "unchanged"
        self.client.write(lambda api: api.sys.enable_auth_method("approle", path=_APPROLE))
        return "created"

    def _mounted(self, path: str) -> dict[str, Any] | None:
        # Answers everyone who may use something below, so the operator's token needs no right on sys/mounts. hvac has no
        # method for it, only its generic read.
        try:
            found = self.client.find(lambda api: api.read(f"sys/internal/ui/mounts/{path}"))
        except PlatformError:
            if not self.client.token_works():
                raise
            return None
        return found["data"] if found else None

    def ensure_audit(self) -> str:
        """An audit log. OpenBao takes it from its configuration alone (2.7); HashiCorp Vault from this call alone."""
        if self.client.call(lambda api: api.sys.list_enabled_audit_devices()).get("data"):
            return "unchanged"
        options = {"file_path": "stdout"}
        self.client.write(lambda api: api.sys.enable_audit_device("file", path="stdout", options=options))
        return "created"

    def policy(self, name: str) -> str | None:
        found = self.client.find(lambda api: api.sys.read_acl_policy(name))
        return str(found["data"]["policy"]) if found else None

    def ensure_policy(self, name: str, text: str) -> str:
        found = self.policy(name)
        if found == text:
            return "unchanged"
        self.client.write(lambda api: api.sys.create_or_update_acl_policy(name, text))
        return "created" if found is None else "updated"

    # -- the login of agents
    def ensure_role(self, name: str, policy: str) -> str:
        found = self.client.find(lambda api: api.auth.approle.read_role(name))
        wanted = {
            "token_policies": [policy],
            "token_ttl": _TOKEN_SECONDS,
            "token_max_ttl": 0,
            "token_type": "service",
            "bind_secret_id": True,
            # An agent must be able to log in after any reboot, years later. A secret-id ends when the next one replaces it.
            "secret_id_ttl": 0,
            "secret_id_num_uses": 0,
        }
        if found and all(found["data"].get(key) == value for key, value in wanted.items()):
            return "unchanged"
        self.client.write(lambda api: api.auth.approle.create_or_update_approle(name, **wanted))
        return "updated" if found else "created"

    def drop_role(self, name: str) -> None:
        """Delete the role with all its secret-ids, and the policy of the same name."""
        self.client.find(lambda api: api.auth.approle.delete_role(name))
        self.client.find(lambda api: api.sys.delete_acl_policy(name))

    def role_id(self, name: str) -> str:
        answer = self.client.find(lambda api: api.auth.approle.read_role_id(name))
        if answer is None:
            raise PlatformError(
                f"Vault at {self.client.address}: no role {name}", "run the stack's setup again"
            )
        return str(answer["data"]["role_id"])

    def new_secret_id(self, name: str) -> Secret:
        answer = self.client.call(lambda api: api.auth.approle.generate_secret_id(name))
        return Secret(answer["data"]["secret_id"])

    def secret_id_works(self, name: str, secret_id: Secret) -> bool:
        return self._secret_id_accessor(name, secret_id) is not None

    def drop_other_secret_ids(self, name: str, keep: Secret) -> int:
        """Destroy every other secret-id of the role, once the new one is on its host; returns how many."""
        kept = self._secret_id_accessor(name, keep)
        listed = self.client.find(lambda api: api.auth.approle.list_secret_id_accessors(name))
        others = [each for each in (listed or {"data": {"keys": []}})["data"]["keys"] if each != kept]
        for each in others:
            self.client.call(partial(_destroy_secret_id, name=name, accessor=each))
        return len(others)

    def _secret_id_accessor(self, name: str, secret_id: Secret) -> str | None:
        found = self.client.find(lambda api: api.auth.approle.read_secret_id(name, secret_id.value))
        return found["data"]["secret_id_accessor"] if found else None

    # -- tokens
    def token_works(self) -> bool:
        return self.client.token_works()

    def token_policies(self) -> list[str]:
        return list(self.client.call(lambda api: api.auth.token.lookup_self())["data"].get("policies", ()))

    def create_operator_token(self) -> Secret:
        """An orphan token that lives as long as it is renewed once a year."""
        answer = self.client.call(
            lambda api: api.auth.token.create(
                policies=[OPERATOR_POLICY],
                no_parent=True,
                period=f"{_OPERATOR_SECONDS}s",
                display_name=OPERATOR_POLICY,
            )
        )
        return Secret(answer["auth"]["client_token"])

    def drop_other_operator_tokens(self, keep: Secret) -> int:
        """Revoke those that an interrupted setup created and could not store; returns how many."""
        kept = self.client.call(lambda api: api.auth.token.lookup(keep.value))["data"]["accessor"]
        listed = self.client.call(lambda api: api.auth.token.list_accessors())
        return sum(
            self.client.call(partial(_revoke_operator_token, accessor=accessor))
            for accessor in listed["data"]["keys"]
            if accessor != kept
        )

    def renewal_is_due(self) -> bool:
        """Whether half of the token's period is over."""
        about = self.client.call(lambda api: api.auth.token.lookup_self())["data"]
        # Not its period: Vault gives less than that where its own limit (max_lease_ttl) is lower.
        return bool(
            about.get("renewable") and about.get("period") and about["ttl"] <= about["creation_ttl"] / 2
        )

    def renew_token(self) -> None:
        self.client.call(lambda api: api.auth.token.renew_self())

    def generate_root(self, keys: Sequence[Secret]) -> Secret:
        """A new root token from enough recovery keys, for when every other token is lost."""
        self.client.call(
            lambda api: api.sys.cancel_root_generation()
        )  # one that was begun and never finished
        begun = self.client.call(lambda api: api.sys.start_root_token_generation())
        answer = begun
        for key in keys:
            if not answer.get("complete"):
                answer = self.client.call(partial(_enter_key, key=key.value, nonce=begun["nonce"]))
        if not answer.get("complete"):
            raise ConfigError(
                f"Vault at {self.client.address}: {len(keys)} recovery keys entered, {begun['required']} are needed",
                "enter each key once",
            )
        hidden = base64.b64decode(answer["encoded_token"] + "==")
        return Secret(bytes(a ^ b for a, b in zip(hidden, begun["otp"].encode(), strict=True)).decode())

    def revoke_token(self) -> None:
        """Revoke the token that this object uses."""
        self.client.call(lambda api: api.auth.token.revoke_self())


def _destroy_secret_id(api: Any, name: str, accessor: str) -> Any:
    return api.auth.approle.destroy_secret_id_accessor(name, accessor)


def _enter_key(api: Any, key: str, nonce: str) -> Any:
    return api.sys.generate_root(key, nonce)


def _revoke_operator_token(api: Any, accessor: str) -> bool:
    """Whether it was one."""
    about = api.auth.token.lookup_accessor(accessor)["data"]
    if about["display_name"] != f"token-{OPERATOR_POLICY}":
        return False
    api.auth.token.revoke_accessor(accessor)
    return True
