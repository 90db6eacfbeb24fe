"""Token -> identity.

The signature is checked once; after that a request costs one digest and two dictionary look-ups. What the token may do comes from its
record, each time: the signature only says that it is ours.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass

from prefect_platform.gateway.errors import Refused
from prefect_platform.gateway.registry import Registry
from prefect_platform.gateway.settings import Settings
from prefect_platform.gateway.tokens import MAX_TOKEN_BYTES, Claims, Kind, verify

MAX_CACHED = 4096


@dataclass(frozen=True)
class Identity:
    jti: str
    kind: Kind
    scopes: frozenset[str]
    expires_at: int
    headers: dict[str, str]


class Verifier:
    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        # Keyed by digest: no token stays in memory. Only tokens that verified get in, so strangers cannot
        # fill it.
        self._cache: OrderedDict[bytes, Claims] = OrderedDict()

    async def identify(self, token: str, kind: Kind) -> Identity:
        """Raises Refused, or StoreUnavailable when it cannot be known whether the token was revoked."""
        return _identity(await self._registry.require_live(self._signed(token, kind)))

    def _signed(self, token: str, kind: Kind) -> Claims:
        now = time.time()
        if len(token) > MAX_TOKEN_BYTES:
            raise Refused
        digest = hashlib.sha256(token.encode("latin-1")).digest()
        known = self._cache.get(digest)
        if known is None:
            known = self._remember(digest, token, kind, now)
        if known.kind is not kind or known.expires_at <= now:
            raise Refused
        return known

    def _remember(self, digest: bytes, token: str, kind: Kind, now: float) -> Claims:
        claims = verify(self._settings, token, kind, now)
        self._cache[digest] = claims
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return claims


def _identity(claims: Claims) -> Identity:
    headers = {
        "X-Platform-Subject": claims.subject,
        "X-Platform-Project": claims.project,
        "X-Platform-Service": claims.service,
        "X-Platform-Token-Id": claims.jti,
    }
    return Identity(claims.jti, claims.kind, frozenset(claims.scope.split()), claims.expires_at, headers)
