"""A small authenticating reverse proxy: what the gateway is to the checks, with faults that can be switched on."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import httpx
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

HOP = {b"host", b"connection", b"content-length", b"transfer-encoding", b"content-encoding"}


class Door:
    """/ping is open; everything else needs the token. `broken` maps an end of a path to a status to answer."""

    def __init__(self, upstream: str, token: str) -> None:
        self.upstream, self.token = upstream, token
        self.broken: dict[str, int] = {}
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(self, lifespan="off", log_level="error", ws="websockets-sansio")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})

    def __enter__(self) -> Door:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.force_exit = self._server.should_exit = True
        self._thread.join()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        status = self._verdict(scope)
        if scope["type"] == "websocket":
            await receive()
            if status:
                kind = "websocket.http.response"
                await send({"type": f"{kind}.start", "status": status, "headers": []})
                await send({"type": f"{kind}.body", "body": b""})
            else:
                await self._relay(scope, receive, send)
        elif status:
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"OK" if status == 200 else b"refused"})
        else:
            await self._forward(scope, receive, send)

    def _verdict(self, scope: Any) -> int | None:
        path = scope["path"]
        for ending, status in self.broken.items():
            if path.endswith(ending):
                return status
        if path == "/ping":
            return 200
        given = dict(scope["headers"]).get(b"authorization", b"").decode()
        return None if given == f"Bearer {self.token}" else 401

    async def _forward(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        url = f"{self.upstream}{scope['path']}?{scope['query_string'].decode()}"
        headers = [pair for pair in scope["headers"] if pair[0] not in HOP]
        async with httpx.AsyncClient(timeout=30, trust_env=False, verify=False) as client:
            answer = await client.request(scope["method"], url, content=body, headers=headers)
        kept = [(key.lower(), value) for key, value in answer.headers.raw if key.lower() not in HOP]
        await send({"type": "http.response.start", "status": answer.status_code, "headers": kept})
        await send({"type": "http.response.body", "body": answer.content})

    async def _relay(self, scope: Any, receive: Any, send: Any) -> None:
        url = "ws" + self.upstream.removeprefix("http") + scope["path"]
        protocols = [Subprotocol(each) for each in scope["subprotocols"]]
        async with connect(url, subprotocols=protocols or None, proxy=None) as inner:
            await send({"type": "websocket.accept", "subprotocol": inner.subprotocol})

            async def upward() -> None:
                while (message := await receive())["type"] == "websocket.receive":
                    await inner.send(message.get("text") or message["bytes"])
                await inner.close()

            up = asyncio.create_task(upward())
            try:
                async for text in inner:
                    await send({"type": "websocket.send", "text": text})
            except ConnectionClosed:
                pass
            up.cancel()
