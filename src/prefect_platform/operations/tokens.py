"""The gateway's tokens as an operator asks for them."""

from __future__ import annotations

import re

from prefect_platform.config import routes
from prefect_platform.environment import access
from prefect_platform.environment.opened import Platform
from prefect_platform.errors import ConfigError, PlatformError

_ROUTES = "routes.yml.j2"
_ASKED = re.compile(r"\bverify/([A-Za-z0-9][\w.:-]*)")
"""How a stack's own routes ask the verifier for a scope."""


def require_scopes(platform: Platform, wanted: str) -> None:
    """Raises ConfigError for a scope that opens nothing."""
    found: set[str] = set()
    for stack in platform.stacks.values():
        file = stack.folder / _ROUTES
        found |= set(_ASKED.findall(file.read_text(encoding="utf-8"))) if file.is_file() else set()
    routes.check_scopes(platform.settings.values["gateway"]["routes"], wanted, found)


def require_token(text: str) -> None:
    """Raises ConfigError for what cannot be a token of the gateway. It is not quoted: it may be another secret."""
    shaped = re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2}", text)
    if not shaped or "kid" not in access.part(text, 0) or "jti" not in access.part(text, 1):
        raise ConfigError(
            f"prefect.client-env: --token: {'not a token of the gateway' if text else 'empty'}",
            "./invoke gateway.create-token --project P --service S creates one",
        )


def revoke_undelivered(platform: Platform, token: str, why: str) -> PlatformError:
    """Revoke a token that nobody received; returns the error to raise."""
    said = f"gateway.create-token: standard output: {why}: nobody received the token"
    jti = str(access.part(token, 1).get("jti"))
    try:
        access.gateway(platform, ["revoke-token", jti])
    except PlatformError as error:
        return PlatformError(
            f"{said}, and it is still valid: {error.reason}", f"./invoke gateway.revoke-token {jti}"
        )
    return PlatformError(f"{said}; it is revoked", "run it again where its output is read")
