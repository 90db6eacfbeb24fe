"""Tokens that must not be admitted, each a good one changed in one respect."""

from __future__ import annotations

import time
from collections.abc import Callable

from .forge import Forge, decode, encode

CLAIMS = ["iss", "aud", "sub", "project", "service", "scope", "iat", "exp", "jti"]
NOW = int(time.time())


def altered_payload(forge: Forge) -> str:
    body = forge.input({"project": "other", "sub": "other/worker"}).split(".")[1]
    return f"{forge.head}.{body}.{forge.signature}"


def respelled_signature(forge: Forge) -> str:
    """The same 64 bytes for a lenient decoder: the last character has four unused bits."""
    last = {"A": "B", "Q": "R", "g": "h", "w": "x"}[forge.signature[-1]]
    assert decode(forge.signature[:-1] + last) == decode(forge.signature)
    return f"{forge.head}.{forge.body}.{forge.signature[:-1]}{last}"


def public_key_in_header(forge: Forge) -> str:
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": encode(forge.public_raw())}
    return forge.sign(header={"jwk": jwk})


FORGERIES: dict[str, Callable[[Forge], str]] = {
    "expired": lambda forge: forge.sign({"exp": NOW - 1}),
    "not yet valid": lambda forge: forge.sign({"nbf": NOW + 3600}),
    "issued in the future": lambda forge: forge.sign({"iat": NOW + 3600}),
    "wrong key": lambda forge: forge.wrong_key(),
    "alg none, unsigned": lambda forge: forge.input(header={"alg": "none"}) + ".",
    "alg none, signed": lambda forge: forge.sign(header={"alg": "none"}),
    "HS256 with the raw public key": lambda forge: forge.hs256(forge.public_raw()),
    "HS256 with the PEM public key": lambda forge: forge.hs256(forge.public_pem()),
    "RS256": lambda forge: forge.rs256(),
    "altered payload": altered_payload,
    "altered header": lambda forge: (
        f"{forge.input(header={'x': 1}).split('.')[0]}.{forge.body}.{forge.signature}"
    ),
    "respelled signature": respelled_signature,
    "no signature": lambda forge: f"{forge.head}.{forge.body}.",
    "two parts": lambda forge: f"{forge.head}.{forge.body}",
    "wrong audience": lambda forge: forge.sign({"aud": "elsewhere"}),
    "audience among others": lambda forge: forge.sign({"aud": ["platform-test", "elsewhere"]}),
    "wrong issuer": lambda forge: forge.sign({"iss": "https://evil.test"}),
    "unknown kid": lambda forge: forge.sign(header={"kid": "key-2"}),
    "no kid": lambda forge: forge.sign(header={"kid": None}),
    "kid of a wrong type": lambda forge: forge.sign(header={"kid": ["key-1"]}),
    "other typ": lambda forge: forge.sign(header={"typ": "JWT"}),
    "session typ": lambda forge: forge.sign(header={"typ": "platform-session+jwt"}),
    "critical extension": lambda forge: forge.sign(header={"crit": ["b64"], "b64": True}),
    "key of its own": public_key_in_header,
    "unrecorded jti": lambda forge: forge.sign({"jti": "0" * 32}),
    "jti with a line break": lambda forge: forge.sign({"jti": forge.payload["jti"] + "\r\nX: y"}),
    "subject not of project and service": lambda forge: forge.sign({"sub": "someone/else"}),
    "numeric text as time": lambda forge: forge.sign({"exp": str(forge.payload["exp"])}),
    "fractional time": lambda forge: forge.sign({"exp": forge.payload["exp"] + 0.5}),
    "boolean time": lambda forge: forge.sign({"iat": True}),
    "infinite time": lambda forge: forge.sign({"exp": float("inf")}),
    "scope as a list": lambda forge: forge.sign({"scope": ["prefect"]}),
    "oversized but signed": lambda forge: forge.sign({"padding": "x" * 9000}),
    "garbage": lambda forge: "garbage",
    "dots": lambda forge: "..",
    "deep JSON": lambda forge: f"{encode(b'[' * 5000)}.{forge.body}.{forge.signature}",
    "no JSON": lambda forge: f"{encode(bytes(range(128, 200)))}.{forge.body}.{forge.signature}",
}
