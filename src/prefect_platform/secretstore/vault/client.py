"""hvac's client for Vault and OpenBao, and one meaning for each of its exceptions: a PlatformError with the next command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import hvac
import requests
from hvac import exceptions

from prefect_platform.errors import ConfigError, PlatformError
from prefect_platform.secretstore.store import Secret

_SECONDS = 30
_NO_CONTENT = 204
_NO_ROUTE = "no handler for route"
_CAPABILITIES = {"get": "read", "list": "list", "post": "update", "put": "update", "delete": "delete"}

Request = Callable[[Any], Any]
"""Gets hvac's client, which has no types."""


class Conflict(PlatformError):
    """Another writer came between our read and our write (check-and-set)."""


class Client:
    """hvac's client and, in this one place, what its exceptions mean. No error contains a value or a token."""

    def __init__(
        self, address: str, token: Secret | None, ca_cert: str | None, *, observing: bool = False
    ) -> None:
        self.observing = observing
        self.address = address.rstrip("/")
        session = requests.Session()
        # A tunnel ends on this machine: a proxy meant for the outside cannot know it.
        session.trust_env = urlsplit(address).hostname not in ("127.0.0.1", "::1", "localhost")
        # hvac takes the session's own setting before its argument.
        session.verify = ca_cert or True
        # Every argument is given: hvac would take the rest from VAULT_… variables and ~/.vault-token.
        self._hvac = hvac.Client(
            url=self.address,
            token=token.value if token else "",
            cert=(),
            verify=ca_cert or True,
            timeout=_SECONDS,
            session=session,
        )

    def call(self, request: Request) -> Any:
        """What Vault answers; {} when it only says that it did so. Raises PlatformError."""
        try:
            answer = request(self._hvac)
        except exceptions.VaultError as error:
            raise self._refused(error) from None
        except requests.exceptions.RequestException as error:
            raise self._unreachable(error) from None
        return {} if answer is None or getattr(answer, "status_code", 0) == _NO_CONTENT else answer

    def write(self, request: Request) -> Any:
        """As `call`, but does nothing while observing: plan and setup take the same path."""
        return {} if self.observing else self.call(request)

    def find(self, request: Request) -> dict[str, Any] | None:
        """As `call`, but None for what does not exist. Raises PlatformError where nothing is mounted at all."""

        def lenient(api: Any) -> Any:
            try:
                return request(api)
            except exceptions.InvalidPath as error:
                if _NO_ROUTE in _said(error):
                    raise
                # A deleted version answers 404 too, with a body that describes it.
                return error.json if isinstance(error.json, dict) and error.json.get("data") else None

        return self.call(lenient) or None

    def token_works(self) -> bool:
        """Whether Vault knows the token. Raises PlatformError when that cannot be found out."""

        def known(api: Any) -> bool:
            try:
                api.auth.token.lookup_self()
            except (exceptions.Forbidden, exceptions.Unauthorized):
                return False
            return True

        return bool(self.call(known))

    def _not_mounted(self, path: str) -> PlatformError:
        is_auth = path.startswith("auth/")
        mount = path.split("/")[1 if is_auth else 0]
        enable = f"bao auth enable {mount}" if is_auth else f"bao secrets enable -path={mount} -version=2 kv"
        return PlatformError(
            f"Vault at {self.address}: nothing is mounted at {mount}/",
            f"./invoke vault.setup mounts it in our OpenBao; in an external Vault an administrator runs: {enable}",
        )

    def _refused(self, error: exceptions.VaultError) -> PlatformError:
        said, place = _said(error), f"Vault at {self.address}"
        path = str(error.url or "").partition("/v1/")[2]
        if _NO_ROUTE in said:
            return self._not_mounted(path)
        if "check-and-set" in said:
            return Conflict(f"{place}: {path}: another writer came first", "run the command again")
        if isinstance(error, (exceptions.Forbidden, exceptions.Unauthorized)):
            return self._forbidden(str(error.method), path)
        if isinstance(error, exceptions.VaultDown):
            return PlatformError(
                f"{place}: {'sealed' if 'sealed' in said else 'not available: ' + said}; no secret can be read or written",
                "ours unseals itself at start: docker restart platform-vault; an external one: bao operator unseal",
            )
        if isinstance(error, exceptions.VaultNotInitialized):
            return PlatformError(f"{place}: not initialised yet", "./invoke vault.setup")
        return PlatformError(
            f"{place}: {path}: {said or type(error).__name__}",
            "see its log: docker logs platform-vault",
        )

    def _forbidden(self, method: str, path: str) -> PlatformError:
        """Vault answers a wrong token and a missing right alike; asking for the token itself tells them apart."""
        if not self.token_works():
            return ConfigError(
                f"Vault at {self.address}: the token is invalid, expired or revoked (needed for {path})",
                "pass a valid one: VAULT_TOKEN=… ./invoke …; ./invoke vault.setup created the first one",
            )
        return ConfigError(
            f"Vault at {self.address}: permission denied: the token may not {_CAPABILITIES[method]} {path}",
            f'a policy of the token must say: path "{path}" {{ capabilities = ["{_CAPABILITIES[method]}"] }}; '
            "vault/operator-policy.hcl lists all that are needed",
        )

    def _unreachable(self, error: requests.exceptions.RequestException) -> PlatformError:
        place = f"Vault at {self.address}"
        if isinstance(error, requests.exceptions.SSLError):
            return ConfigError(
                f"{place}: its certificate is not trusted",
                "set platform.vault.ca_cert to the CA certificate that signed it",
            )
        if isinstance(
            error,
            (
                requests.exceptions.InvalidURL,
                requests.exceptions.MissingSchema,
                requests.exceptions.InvalidSchema,
            ),
        ):
            return ConfigError(
                f"{place}: not an address",
                "platform.vault.address is a URL like https://vault.example.com:8200",
            )
        why = (
            "does not answer in time"
            if isinstance(error, requests.exceptions.Timeout)
            else "cannot be reached"
        )
        return PlatformError(
            f"{place}: {why}",
            "is it up? ./invoke vault.status; then ./invoke vault.setup (or platform.vault.address)",
        )


def _said(error: exceptions.VaultError) -> str:
    return "; ".join(str(line).strip() for line in error.errors or ()) or str(error.args[0] or "")
