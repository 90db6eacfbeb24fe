"""HTTP clients for every part of the platform: which certificates they trust, which proxies they ignore."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx

from prefect_platform.errors import PlatformError

Trust = ssl.SSLContext | None
"""Whose certificates an https server may have; None: those that every client trusts."""


LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def bearer(token: str | None) -> dict[str, str]:
    """The header that carries a token. A text that cannot be one is refused here: others would print it."""
    if not token:
        return {}
    if not token.isascii() or not token.isprintable() or " " in token:
        raise PlatformError("token: contains invalid characters", "./invoke gateway.create-token")
    return {"Authorization": f"Bearer {token}"}


def client_for(url: str, timeout: float, headers: Mapping[str, str], trust: Trust = None) -> httpx.Client:
    """A client for one server; `timeout` in seconds per step of a request."""
    # On plain http there is nothing to verify, and loading the certificates costs more than the requests.
    verify = trust or True if urlsplit(url).scheme != "http" else False
    return httpx.Client(
        base_url=url, headers=headers, timeout=timeout, trust_env=not is_loopback(url), verify=verify
    )


def is_loopback(url: str) -> bool:
    """Whether a URL stays on this machine, where a proxy from the environment must not be used."""
    return urlsplit(url).hostname in LOOPBACK


def described(error: Exception) -> str:
    """Kind and text: some errors of the network have no text."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
