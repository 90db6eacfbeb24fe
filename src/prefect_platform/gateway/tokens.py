"""Signed claims, pure: a grant in, a compact JWT out, and back.

Nothing here knows of requests or of the store.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from prefect_platform.gateway.errors import Refused

if TYPE_CHECKING:
    from prefect_platform.gateway.settings import Settings

# Clocks of the issuing and the verifying machine may differ by this much (for nbf and iat; exp has no
# leeway).
LEEWAY_SECONDS = 5
MAX_TOKEN_BYTES = 8192
REQUIRED = ["iss", "aud", "sub", "project", "service", "scope", "iat", "exp", "jti"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
SCOPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,62}( [A-Za-z0-9][A-Za-z0-9._:-]{0,62})*")
JTI = re.compile(r"[0-9a-f]{32}")
# Lenient base64 decoders ignore foreign characters and the last unused bits, so one token would have many
# spellings. An Ed25519 signature is 86 characters, the last one of A Q g w: only the canonical spelling is
# looked at.
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{85}[AQgw]")


class Kind(StrEnum):
    """What a token is for.

    The JOSE header's typ says it, so that one can never be used as the other (RFC 8725, 3.11).
    """

    TOKEN = "token"  # noqa: S105 - the word, not a secret
    SESSION = "session"

    @property
    def typ(self) -> str:
        return f"platform-{self.value}+jwt"


@dataclass(frozen=True)
class Claims:
    jti: str
    kind: Kind
    project: str
    service: str
    scope: str
    issued_at: int
    expires_at: int

    @property
    def subject(self) -> str:
        return f"{self.project}/{self.service}"


def grant(kind: Kind, project: str, service: str, scope: str, seconds: int) -> Claims:
    """New claims, valid from now for `seconds`."""
    now = int(time.time())
    return Claims(secrets.token_hex(16), kind, project, service, scope, now, now + seconds)


def granted(presented: Claims, recorded: Claims) -> Claims:
    """What the record of a signed token grants: its scopes and its end count. The token's own claims can only take away from them.

    Raises Refused for the record of something else: a key that leaked can sign any claims under the id of a token that exists.
    """
    if any(
        getattr(presented, name) != getattr(recorded, name) for name in ("jti", "kind", "project", "service")
    ):
        raise Refused
    asked = presented.scope.split(" ")
    scope = " ".join(word for word in recorded.scope.split(" ") if word in asked)
    return replace(recorded, scope=scope, expires_at=min(presented.expires_at, recorded.expires_at))


def hash_code(code: str) -> str:
    """What is stored of a login code.

    A fast digest is enough: a code is 256 random bits, nothing to guess.
    """
    return hashlib.sha256(code.encode()).hexdigest()


def mint(settings: Settings, claims: Claims) -> str:
    import jwt

    payload = {
        "iss": settings.issuer,
        "aud": settings.audience,
        "sub": claims.subject,
        "project": claims.project,
        "service": claims.service,
        "scope": claims.scope,
        "iat": claims.issued_at,
        "exp": claims.expires_at,
        "jti": claims.jti,
    }
    key = settings.keys.newest
    header = {"typ": claims.kind.typ, "kid": key.kid}
    return jwt.encode(payload, key.private, algorithm="EdDSA", headers=header)


def verify(settings: Settings, token: str, kind: Kind, now: float) -> Claims:
    """The claims of a token of this kind that is signed by one of our keys and valid now. Raises Refused."""
    import jwt

    if len(token) > MAX_TOKEN_BYTES or not _COMPACT.fullmatch(token):
        raise Refused
    try:
        header = jwt.get_unverified_header(token)
        # Exactly the header that we write: no jku, jwk, x5u or crit can ever be looked at.
        if header.keys() != {"alg", "typ", "kid"} or header["typ"] != kind.typ or header["alg"] != "EdDSA":
            raise Refused
        key = settings.keys.by_kid.get(header["kid"])
        if key is None:
            raise Refused
        payload: dict[str, Any] = jwt.decode(
            token,
            key.public,
            algorithms=["EdDSA"],
            audience=settings.audience,
            issuer=settings.issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": REQUIRED, "strict_aud": True},
        )
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        # PyJWT lets a few decoding errors of hostile JSON through as they are.
        raise Refused from None
    return _claims(payload, kind, now)


def _claims(payload: dict[str, Any], kind: Kind, now: float) -> Claims:
    """Types are checked strictly: PyJWT would take a numeric string for a time."""
    texts = [payload[name] for name in ("iss", "sub", "project", "service", "scope", "jti")]
    times = [payload["iat"], payload["exp"], payload.get("nbf", 0)]
    if not all(isinstance(text, str) for text in texts) or not all(type(value) is int for value in times):
        raise Refused
    claims = Claims(
        payload["jti"], kind, payload["project"], payload["service"], payload["scope"], times[0], times[1]
    )
    named = (
        NAME.fullmatch(claims.project) and NAME.fullmatch(claims.service) and claims.subject == payload["sub"]
    )
    if (
        not named
        or not SCOPE.fullmatch(claims.scope)
        or not JTI.fullmatch(claims.jti)
        or claims.expires_at <= now
    ):
        raise Refused
    return claims
