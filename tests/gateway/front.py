"""The gateway as it is served: the real Traefik with the stacks' own routes, before a real verifier and a service that keeps things open."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import uvicorn

from prefect_platform.config import settings, stack
from prefect_platform.planning import render
from prefect_platform.planning.where import Where
from prefect_platform.targets import traits

from .process import Gateway, free_port

ROOT = Path(__file__).resolve().parents[2]
KEPT_OPEN = ("websocket", "stream", "poll")
"""Kinds of requests that last."""
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@dataclass
class Service:
    """Echoes WebSockets, streams at /…/stream, answers /…/poll never and everything else at once; notes what ended, and which bodies came."""

    port: int = 0
    gone: list[str] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)
    begun: int = 0
    slow: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun += 1
        kind = scope["path"].rpartition("/")[2]
        if scope["type"] == "websocket":
            await self._echo(receive, send)
        elif kind in KEPT_OPEN:
            await self._keep(kind, receive, send)
        else:
            await self._answer(kind, receive, send)

    async def _keep(self, kind: str, receive: Any, send: Any) -> None:
        if kind == "stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone.append(kind)

    async def _answer(self, kind: str, receive: Any, send: Any) -> None:
        size = 0
        while (message := await receive()).get("more_body"):
            size += len(message["body"])
        self.bodies.append(size + len(message.get("body", b"")))
        while kind == "slow" and not self.slow.is_set():
            await asyncio.sleep(0.02)
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    async def _echo(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        self.gone.append("websocket")


class Held:
    """A WebSocket, a stream or a long poll that is open, as its client sees it."""

    def __init__(self, url: str, kind: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._connection = socket.create_connection((parts.hostname or "", parts.port or 80), 30)
        sent = {"Host": parts.netloc, **headers, **(UPGRADE if kind == "websocket" else {})}
        head = f"GET {parts.path}/{kind} HTTP/1.1\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in sent.items()
        )
        self._connection.sendall(f"{head}\r\n".encode())
        self.status = "" if kind == "poll" else self._first_line()

    def _first_line(self) -> str:
        try:
            return self._connection.recv(4096).split()[1].decode()
        except BaseException:
            self.close()
            raise

    def ended(self) -> bool:
        """Whether the answer, or the connection, has come to its end. A socket of ours is closed by nobody else."""
        self._connection.setblocking(False)
        try:
            while said := self._connection.recv(65536):
                if b"HTTP/1.1 " in said:
                    return True
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        self._connection.close()


class Place:
    """A gateway with Traefik before it, and a service that is Prefect as well as a route of one's own.

    `outpost`: where single sign-on is asked, whose people then open Prefect.
    """

    def __init__(
        self,
        gateway: Gateway,
        opened: ExitStack,
        outpost: str = "",
        limits: Mapping[str, int] | None = None,
    ) -> None:
        self.gateway, self.service, self._opened = gateway, Service(), opened
        backend = Running(self.service)
        opened.callback(backend.end)
        gateway.start()
        opened.callback(gateway.client.close)
        opened.callback(gateway.kill)
        route = {"name": "own", "path": "/own", "url": f"http://127.0.0.1:{backend.port}"}
        raw: dict[str, Any] = {"gateway": {"routes": [route], **(limits or {})}}
        if outpost:
            raw |= {
                "authentik": {"url": outpost},
                "prefect": {"auth": "sso-or-token", "allowed_groups": ["*"]},
            }
        host = "127.0.0.1" if outpost else ""
        self.front = Front(
            gateway.folder / "front", raw, backend.port, int(gateway.env["GATEWAY_PORT"]), host
        )
        opened.callback(self.front.end)

    def socket(self, path: str, headers: Mapping[str, str]) -> Held:
        return self._held(path, "websocket", headers)

    def open(self, path: str, headers: Mapping[str, str]) -> list[Held]:
        """One of each kind, arrived at the service."""
        before = self.service.begun
        held = [self._held(path, kind, headers) for kind in KEPT_OPEN]
        until(lambda: self.service.begun == before + len(held), "all to arrive")
        return held

    def _held(self, path: str, kind: str, headers: Mapping[str, str]) -> Held:
        held = Held(self.front.url + path, kind, headers)
        self._opened.callback(held.close)
        return held


class Running:
    """An ASGI app on a free port, in a thread."""

    def __init__(self, app: Any) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(listener.getsockname()[1])
        config = uvicorn.Config(app, lifespan="off", log_level="error", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)


class Front:
    """Traefik in `folder`. `raw` is what a person would set; `host` is for single sign-on, whose routes are those of a host."""

    def __init__(
        self, folder: Path, raw: Mapping[str, Any], service: int, verifier: int, host: str = ""
    ) -> None:
        self.port, self.auth, self.ops = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        ports = {"port": self.port, "auth_port": self.auth, "ops_port": self.ops, "verifier_port": verifier}
        values = {
            **raw,
            "gateway": {**raw.get("gateway", {}), **ports},
            "prefect": {**raw.get("prefect", {}), "upstream": f"http://127.0.0.1:{service}"},
        }
        (folder / "routes").mkdir(parents=True)
        where = Where(
            "combined",
            sys.executable,
            "traefik",
            "",
            "",
            str(folder),
            str(folder),
            str(folder / "routes"),
            "",
        )
        self._write(folder, values, replace(where, host=host))
        binary = shutil.which("traefik", path=str(Path(sys.executable).parent))
        assert binary, "the runtime holds a traefik binary"
        self.log = folder / "traefik.log"
        with self.log.open("wb") as log:
            command = [binary, f"--configFile={folder}/traefik.yml"]
            self.process = subprocess.Popen(command, cwd=folder, env={}, stdout=log, stderr=log)
        until(self._ready, "Traefik's routes")

    def _write(self, folder: Path, values: Mapping[str, Any], where: Where) -> None:
        read, known = stack.read_all(ROOT), traits()
        schema = settings.platform_schema({each.section: each.schema() for each in read.values()}, known)
        chosen = settings.load(ROOT, values, schema, "local", {}, known)
        for name in ("traefik", "gateway", "prefect"):
            built = render.build(read[name].as_set(chosen.values[read[name].section]), chosen, where)
            (folder / "routes" / f"{name}.yml").write_bytes(built.routes or b"")
            for path, content in built.files.items() if name == "traefik" else ():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/prefect/").status_code != 404
        return False

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def until(condition: Callable[[], Any], what: str, seconds: float = 30) -> float:
    """Wait until it is true; how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"waited {seconds:g} s for {what}"
        time.sleep(0.02)
    return time.monotonic() - began
