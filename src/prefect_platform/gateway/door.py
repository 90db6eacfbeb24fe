"""What one request presents, pure: its credential, who looks at the answer, and where it comes from.

Traefik's ForwardAuth always sends a GET; the original request is in X-Forwarded-Method, -Proto and -Host
(Traefik 3.7).
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from prefect_platform.gateway import cookies
from prefect_platform.gateway.errors import Refused
from prefect_platform.gateway.tokens import MAX_TOKEN_BYTES

_BEARER = re.compile(r"bearer[ \t]+([A-Za-z0-9._-]+)", re.IGNORECASE)
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def bearer_token(headers: Headers) -> str | None:
    """The bearer token; None without an Authorization header.

    Raises Refused for anything but one well-formed bearer.
    """
    values = headers.getlist("authorization")
    if not values:
        return None
    # Proxies and applications disagree about which of several counts: so none does.
    if len(values) > 1 or len(values[0]) > MAX_TOKEN_BYTES + len("Bearer "):
        raise Refused
    match = _BEARER.fullmatch(values[0].strip(" \t"))
    if match is None:
        raise Refused
    return match[1]


def session_token(headers: Headers, cookie_name: str) -> str | None:
    """The session cookie's value; None without one.

    Raises Refused for several: a neighbour may have planted one.
    """
    values = cookies.read(headers, cookie_name)
    if len(values) > 1:
        raise Refused
    return values[0] if values else None


def is_websocket(headers: Headers) -> bool:
    protocol = headers.get("x-forwarded-proto", "").lower()
    upgrade = headers.get("upgrade", "").lower() == "websocket"
    return protocol in ("ws", "wss") or upgrade or "sec-websocket-key" in headers


def is_navigation(headers: Headers) -> bool:
    """A person's browser opens a page, so the answer should be readable."""
    method = headers.get("x-forwarded-method", "GET").upper()
    return method == "GET" and "text/html" in headers.get("accept", "") and not is_websocket(headers)


def is_speculative(headers: Headers) -> bool:
    """A browser that fetches a page before a person requests it."""
    return "prefetch" in headers.get("sec-purpose", "") or "prefetch" in headers.get("purpose", "")


def may_use_cookie(headers: Headers, public_url: str) -> bool:
    """False for what another site may have made the browser send: unlike tokens, cookies go along unasked.

    Only changing requests and WebSocket handshakes matter: SameSite=Lax does not cover other ports and sister
    domains, and no browser applies the same-origin policy to WebSockets.
    """
    method = headers.get("x-forwarded-method", "").upper()
    if method in _SAFE_METHODS and not is_websocket(headers):
        return True
    if not headers.getlist("origin"):
        return headers.get("sec-fetch-site", "none") in ("same-origin", "none")
    return _is_our_origin(headers, public_url)


def is_sent_by_our_page(headers: Headers, public_url: str) -> bool:
    """As `may_use_cookie` for a form, which browsers always send with an Origin: without a mark of our own page it is not one."""
    if not headers.getlist("origin"):
        return headers.get("sec-fetch-site") == "same-origin"
    return _is_our_origin(headers, public_url)


def _is_our_origin(headers: Headers, public_url: str) -> bool:
    origins = headers.getlist("origin")
    protocol = headers.get("x-forwarded-proto", "").lower()
    scheme = {"ws": "http", "wss": "https"}.get(protocol, protocol)
    ours = (_origin(f"{scheme}://{headers.get('x-forwarded-host', '')}"), _origin(public_url))
    origin = _origin(origins[0])
    return len(origins) == 1 and origin is not None and origin in ours


def _origin(url: str) -> tuple[str, str, int] | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        return None
    return parts.scheme, parts.hostname.rstrip("."), port or _DEFAULT_PORTS[parts.scheme]
