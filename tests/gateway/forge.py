"""A token forge that shares no code with the gateway: JSON, base64 and bare signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

Json = dict[str, Any]


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def key_entry(kid: str = "key-1") -> Json:
    seed = ed25519.Ed25519PrivateKey.generate().private_bytes_raw()
    return {"kid": kid, "d": encode(seed), "created": int(time.time())}


class Forge:
    """Takes a real, recorded token apart, so that a forgery differs from it in exactly one respect."""

    def __init__(self, entry: Json, token: str) -> None:
        self.key = ed25519.Ed25519PrivateKey.from_private_bytes(decode(entry["d"]))
        self.token = token
        self.head, self.body, self.signature = token.split(".")
        self.header: Json = json.loads(decode(self.head))
        self.payload: Json = json.loads(decode(self.body))

    def input(self, payload: Mapping[str, Any] | None = None, header: Mapping[str, Any] | None = None) -> str:
        parts = ({**self.header, **(header or {})}, {**self.payload, **(payload or {})})
        kept = [{name: value for name, value in part.items() if value is not None} for part in parts]
        return ".".join(encode(json.dumps(part).encode()) for part in kept)

    def sign(self, payload: Mapping[str, Any] | None = None, header: Mapping[str, Any] | None = None) -> str:
        """Signed with the true key; None removes a claim."""
        text = self.input(payload, header)
        return f"{text}.{encode(self.key.sign(text.encode()))}"

    def wrong_key(self) -> str:
        text = self.input()
        return f"{text}.{encode(ed25519.Ed25519PrivateKey.generate().sign(text.encode()))}"

    def hs256(self, secret: bytes) -> str:
        text = self.input(header={"alg": "HS256"})
        return f"{text}.{encode(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"

    def rs256(self) -> str:
        text = self.input(header={"alg": "RS256"})
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return f"{text}.{encode(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def public_raw(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    def public_pem(self) -> bytes:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, form)
