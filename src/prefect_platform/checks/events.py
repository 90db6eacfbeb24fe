"""The event sockets, through which task runs are recorded: open to a token, closed without."""

from __future__ import annotations

import json
from typing import Any

from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from prefect_platform.errors import CheckFailed
from prefect_platform.http_client import bearer, described, is_loopback

from .spec import CheckSpec


def events(spec: CheckSpec) -> str:
    """The event socket accepts a client as Prefect 3.8.8's does it: header, subprotocol, `auth` message."""
    try:
        with _socket(spec, "/events/out", spec.token) as socket:
            # Behind a gateway the header counts; Prefect itself wants the message, with any token.
            socket.send(json.dumps({"type": "auth", "token": None}))
            reply: Any = json.loads(socket.recv(timeout=spec.timeout))
    except InvalidStatus as error:
        raise CheckFailed(
            f"WebSocket /events/out with a token: {error.response.status_code}, expected 101"
        ) from None
    except (OSError, WebSocketException, ValueError) as error:
        raise CheckFailed(f"WebSocket /events/out: {described(error)}") from None
    if not isinstance(reply, dict) or reply.get("type") != "auth_success":
        raise CheckFailed(f"WebSocket /events/out: {str(reply)[:200]} instead of auth_success")
    return "event stream accepts the token"


def events_refuse_strangers(spec: CheckSpec) -> str:
    """Publishing events must need a token: that is how task runs are recorded."""
    try:
        with _socket(spec, "/events/in", None):
            pass
    except InvalidStatus as error:
        if error.response.status_code == 401:
            return "401 without a token"
        raise CheckFailed(
            f"WebSocket /events/in without a token: {error.response.status_code}, expected 401"
        ) from None
    except (OSError, InvalidHandshake) as error:
        raise CheckFailed(f"WebSocket /events/in: {described(error)}") from None
    raise CheckFailed(
        "WebSocket /events/in is open without a token, expected 401",
        "./invoke prefect.logs --service verifier",
    )


def _socket(spec: CheckSpec, path: str, token: str | None) -> ClientConnection:
    return connect(
        "ws" + spec.api_url.removeprefix("http") + path,
        ssl=spec.trust if spec.api_url.startswith("https") else None,
        additional_headers=bearer(token),
        subprotocols=[Subprotocol("prefect")],
        open_timeout=spec.timeout,
        close_timeout=1,
        proxy=None if is_loopback(spec.public_url) else True,
    )
