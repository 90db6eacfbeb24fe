"""One request to Vault or OpenBao, and what its answer means to the person who waits for it. Everything else is in vault.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import hvac
import requests
from hvac import exceptions

from prefect_platform.errors import ConfigError, PlatformError
from prefect_platform.secretstore.store import Secret

_SECONDS = 30
_NO_ROUTE = "no handler for route"
_CAPABILITIES = {"get": "read", "list": "list", "post": "update", "put": "update", "delete": "delete"}


class Conflict(PlatformError):
    """Somebody else wrote between our reading and our writing (check-and-set)."""


class Client:
    """Sends requests; raises PlatformError with the path, never with a value or a token."""

    def __init__(self, address: str, token: Secret | None, ca_cert: str | None) -> None:
        self.address = address.rstrip("/")
        session = requests.Session()
        # A tunnel ends on this machine: a proxy meant for the outside cannot know it.
        session.trust_env = urlsplit(address).hostname not in ("127.0.0.1", "::1", "localhost")
        # Given explicitly, all of it: hvac would take what is missing from VAULT_… variables and ~/.vault-token.
        self._hvac = hvac.Client(
            url=self.address,
            token=token.value if token else "",
            verify=ca_cert or True,
            timeout=_SECONDS,
            session=session,
        )

    def get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        """The answer's JSON; None where there is nothing."""
        return self.call("get", path, params=dict(params or {}))

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self.call("post", path, json=dict(body)) or {}

    def call(self, method: str, path: str, **options: Any) -> dict[str, Any] | None:
        try:
            answer = self._hvac.adapter.request(method, f"/v1/{path}", **options)
        except exceptions.InvalidPath as error:
            return self._absent(path, error)
        except exceptions.VaultError as error:
            raise self._refused(method, path, error) from None
        except requests.exceptions.RequestException as error:
            raise self._unreachable(error) from None
        return answer if isinstance(answer, dict) else {}

    def _absent(self, path: str, error: exceptions.VaultError) -> dict[str, Any] | None:
        if _NO_ROUTE in _said(error):
            mount = path.split("/")[1 if path.startswith("auth/") else 0]
            enable = (
                f"bao auth enable {mount}"
                if path.startswith("auth/")
                else f"bao secrets enable -path={mount} -version=2 kv"
            )
            raise PlatformError(
                f"Vault at {self.address}: nothing is mounted at {mount}/",
                f"./invoke vault.setup makes it in a Vault of ours; in another one an administrator does: {enable}",
            ) from None
        # A deleted version answers 404 too, with a body that says so.
        return error.json if isinstance(error.json, dict) and error.json.get("data") else None

    def _refused(self, method: str, path: str, error: exceptions.VaultError) -> PlatformError:
        said, place = _said(error), f"Vault at {self.address}"
        if "check-and-set" in said:
            return Conflict(f"{place}: {path}: somebody else wrote at the same time", "run the command again")
        if isinstance(error, (exceptions.Forbidden, exceptions.Unauthorized)):
            return self._forbidden(method, path)
        if isinstance(error, exceptions.VaultDown):
            return PlatformError(
                f"{place}: {'sealed' if 'sealed' in said else 'not available: ' + said}; nothing can be read or written",
                "our own opens itself when it starts: docker restart platform-vault; another one: bao operator unseal",
            )
        if isinstance(error, exceptions.VaultNotInitialized):
            return PlatformError(f"{place}: not initialised yet", "./invoke vault.setup")
        return PlatformError(
            f"{place}: {path}: {said or type(error).__name__}",
            "its log says more: docker logs platform-vault",
        )

    def _forbidden(self, method: str, path: str) -> PlatformError:
        """Vault answers a wrong token and a missing right alike; asking for the token itself tells them apart."""
        if not self.token_works():
            return ConfigError(
                f"Vault at {self.address}: the token is wrong, has ended or was revoked (needed for {path})",
                "give a good one: VAULT_TOKEN=… ./invoke …; ./invoke vault.setup made the first one",
            )
        return ConfigError(
            f"Vault at {self.address}: permission denied: the token may not {_CAPABILITIES[method]} {path}",
            f'a policy of the token must say: path "{path}" {{ capabilities = ["{_CAPABILITIES[method]}"] }}; '
            "vault/operator-policy.hcl has all that is needed",
        )

    def token_works(self) -> bool:
        """Whether the token is known to Vault. Raises PlatformError when that cannot be found out."""
        try:
            self._hvac.adapter.request("get", "/v1/auth/token/lookup-self")
        except (exceptions.Forbidden, exceptions.Unauthorized):
            return False
        except exceptions.VaultError as error:
            raise self._refused("get", "auth/token/lookup-self", error) from None
        except requests.exceptions.RequestException as error:
            raise self._unreachable(error) from None
        return True

    def _unreachable(self, error: requests.exceptions.RequestException) -> PlatformError:
        place = f"Vault at {self.address}"
        if isinstance(error, requests.exceptions.SSLError):
            return ConfigError(
                f"{place}: its certificate is not trusted here",
                "set platform.vault.ca_cert to the file of the authority that signed it",
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
