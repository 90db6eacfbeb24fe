"""Answers of Prefect that leave it changed: settings without passwords, and pages that say so when their session has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MASK = b"********"
_ASKS = (b"accept-encoding", b"if-none-match", b"if-modified-since", b"range")
_SAYS = (b"content-length", b"etag", b"last-modified", b"accept-ranges")

NOTICE = b"""<script>(() => {
  // The door in front of Prefect answers 401 once the session has ended; Prefect's pages only say that something went wrong.
  let told = false;
  const tell = () => {
    if (told) return;
    told = true;
    const bar = document.createElement("div");
    bar.setAttribute("role", "alert");
    bar.style.cssText = "position:fixed;inset:0 0 auto 0;z-index:2147483647;padding:12px;display:flex;gap:12px;justify-content:center;"
      + "align-items:center;background:#7f1d1d;color:#fff;font:16px/1.5 system-ui,sans-serif";
    const button = document.createElement("button");
    button.textContent = "Sign in again";
    button.style.cssText = "padding:4px 12px;border:0;border-radius:4px;background:#fff;color:#7f1d1d;font:inherit;cursor:pointer";
    button.onclick = () => location.reload();
    bar.append("You are signed out.", button);
    (document.body || document.documentElement).append(bar);
  };
  const ask = window.fetch;
  window.fetch = async (...words) => {
    const answer = await ask(...words);
    if (answer.status === 401) tell();
    return answer;
  };
  const send = XMLHttpRequest.prototype.send;
  XMLHttpRequest.prototype.send = function (...words) {
    this.addEventListener("load", () => { if (this.status === 401) tell(); });
    return send.apply(this, words);
  };
})();</script>
"""


def without_passwords(app: App, secrets: Sequence[bytes]) -> App:
    """`GET /admin/settings` of Prefect 3.8.8 shows a URL's password in clear to every caller of the API."""

    def masked(body: bytes) -> bytes:
        for secret in secrets:
            body = body.replace(b":" + secret + b"@", b":" + MASK + b"@")
        return body

    return _rewritten(app, lambda scope: scope["path"].rstrip("/").endswith("/admin/settings"), masked)


def with_notice(app: App) -> App:
    """Every page has a script that tells a person whose session has ended, and how to go on."""
    return _rewritten(app, _opens_a_page, lambda body: body.replace(b"<head>", b"<head>" + NOTICE, 1))


def _opens_a_page(scope: Message) -> bool:
    return scope["method"] == "GET" and any(
        name == b"accept" and b"text/html" in value for name, value in scope["headers"]
    )


def _rewritten(app: App, wanted: Callable[[Message], bool], change: Callable[[bytes], bytes]) -> App:
    """An ASGI app whose answers to `wanted` requests have their bodies changed; they are held in memory for that."""

    async def called(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not wanted(scope):
            return await app(scope, receive, send)
        # Compressed, nothing would be found; and what a browser has kept of it may be older than the change.
        scope["headers"] = [item for item in scope["headers"] if item[0] not in _ASKS]
        start: Message = {}
        body = b""

        async def held(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            shown = change(body)
            headers = [item for item in start["headers"] if item[0].lower() not in _SAYS]
            await send({**start, "headers": [*headers, (b"content-length", str(len(shown)).encode())]})
            await send({"type": "http.response.body", "body": shown})

        return await app(scope, receive, held)

    return called
