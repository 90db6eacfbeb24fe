"""Ed25519 signing keys: a JSON list, newest first. The first signs, all verify, so a rotation overlaps."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefect_platform.gateway.errors import UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

VARIABLE = "GATEWAY_SIGNING_KEYS"
_KID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class SigningKey:
    kid: str
    private: Ed25519PrivateKey = field(repr=False)
    public: Ed25519PublicKey = field(repr=False)


@dataclass(frozen=True)
class Keyset:
    newest: SigningKey
    by_kid: dict[str, SigningKey]


def parse_keyset(text: str) -> Keyset:
    """`[{"kid": str, "d": base64url of the 32-byte seed, "created": unix seconds}, …]`.

    Raises UsageError, never quoting it.
    """
    try:
        entries = json.loads(text)
    except ValueError:
        raise UsageError(f"{VARIABLE}: not valid JSON") from None
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{VARIABLE}: must be a non-empty JSON list")
    keys = [_parse_key(entry, index) for index, entry in enumerate(entries)]
    by_kid = {key.kid: key for key in keys}
    if len(by_kid) != len(keys):
        raise UsageError(f"{VARIABLE}: two entries have the same kid")
    return Keyset(keys[0], by_kid)


def _parse_key(entry: Any, index: int) -> SigningKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    place = f"{VARIABLE}[{index}]"
    if not isinstance(entry, dict):
        raise UsageError(f"{place}: must be an object with kid, d and created")
    kid, seed = entry.get("kid"), entry.get("d")
    if not isinstance(kid, str) or not _KID.fullmatch(kid):
        raise UsageError(f"{place}.kid: must be 1 to 64 letters, digits or . _ -")
    if not isinstance(entry.get("created"), int):
        raise UsageError(f"{place}.created: must be a time in unix seconds")
    if not isinstance(seed, str) or not re.fullmatch(r"[A-Za-z0-9_-]{43}=?", seed):
        raise UsageError(f"{place}.d: must be 32 bytes in base64url")
    try:
        raw = base64.urlsafe_b64decode(seed.rstrip("=") + "=")
    except binascii.Error:
        raise UsageError(f"{place}.d: must be 32 bytes in base64url") from None
    private = Ed25519PrivateKey.from_private_bytes(raw)
    return SigningKey(kid, private, private.public_key())
