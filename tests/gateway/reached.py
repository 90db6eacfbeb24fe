"""Real Traefik with the routes that a target renders, the real verifier, and one service behind every route that shows what reaches it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from prefect_platform.config import settings, sso, stack
from prefect_platform.planning import render
from prefect_platform.targets.compose import names
from tests.unit.conftest import ROOT, TRAITS, where

from .process import START_SECONDS, Gateway, free_port, make_gateway

VPS = {"target": "compose", "host": "localhost", "domain": "example.com", "traefik": {"tls": "off"}}
VPS_HOST = "prefect-local.example.com"
OUTPOST = "/outpost.goauthentik.io/auth/traefik"


class Service:
    """Answers every request with what it got, as JSON, but `pages` (path → HTML). `seen` are (method, path), `cookies` the last header by
    path. As Authentik's outpost it knows who has a cookie of it.
    """

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.seen: list[tuple[str, str]] = []
        self.cookies: dict[str, str] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, path: str, headers: Mapping[str, str]) -> tuple[int, dict[str, str], str]:
        cookie = self.cookies[path] = headers.get("cookie", "")
        if path == OUTPOST and "authentik_proxy" not in cookie:
            return 302, {"Location": "https://sso.example.com/"}, ""
        person = {"X-Authentik-Username": "jo", "X-Authentik-Groups": "admins"} if path == OUTPOST else {}
        if page := self.pages.get(path):
            return 200, {"Content-Type": "text/html"}, page
        return (
            200,
            {"Content-Type": "application/json", **person},
            json.dumps({"path": path, "headers": headers}),
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            service.seen.append((self.command, self.path))
            told = {name.lower(): value for name, value in self.headers.items()}
            status, headers, body = service.answer(self.path, told)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


class Front:
    """The platform's public port at `url`, before a service that stands for Prefect and for all others."""

    def __init__(self, gateway: Gateway, service: Service, url: str) -> None:
        self.gateway, self.service, self.url = gateway, service, url

    def get(self, path: str, host: str = "", cookie: str = "", **headers: str) -> httpx.Response:
        """The path is sent as it is; in the names of headers `_` stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in {"Host": host, "Cookie": cookie, **named}.items() if value}
        with httpx.Client(timeout=30) as client:
            request = client.build_request("GET", self.url, headers=sent)
            request.url = request.url.copy_with(raw_path=path.encode())
            return client.send(request)

    def session(self) -> str:
        """The Cookie header of a person who has logged in."""
        return f"{self.gateway.cookie_name}={self.gateway.log_in()}"


@contextmanager
def standing(
    folder: Path, signing_keys: str, routes: list[dict[str, Any]], values: Mapping[str, Any] | None = None
) -> Iterator[Front]:
    """`routes` without their url; `values` are the other settings, nothing for target local."""
    service = Service()
    ports = {name: free_port() for name in ("port", "verifier_port", "auth_port", "ops_port")}
    url = f"http://127.0.0.1:{ports['port']}"
    own = [{"url": f"http://127.0.0.1:{service.port}", **route} for route in routes]
    chosen = _settings({**(values or {}), "gateway": {**ports, "routes": own}})
    public = f"https://{VPS_HOST}" if values else url
    gateway = make_gateway(
        folder, signing_keys, GATEWAY_PUBLIC_URL=public, GATEWAY_PORT=str(ports["verifier_port"])
    )
    if found := sso.doors(chosen, VPS_HOST, ""):
        gateway.env["GATEWAY_SSO"] = found.policy
    try:
        _write(folder, chosen, service.port)
        gateway.start()
        with _traefik(folder, url, VPS_HOST if values else "localhost"):
            yield Front(gateway, service, url)
    finally:
        gateway.client.close()
        if gateway.process is not None:
            gateway.stop()
        service.close()


def _settings(values: Mapping[str, Any]) -> settings.Settings:
    stacks = stack.read_all(ROOT)
    schema = settings.platform_schema({each.section: each.schema() for each in stacks.values()}, TRAITS)
    return settings.load(ROOT, values, schema, "local", {}, TRAITS)


def _write(folder: Path, chosen: settings.Settings, service: int) -> None:
    """Prefect's and Authentik's routes lead to the service."""
    stacks = stack.for_target(stack.read_all(ROOT), TRAITS[chosen.target])
    (folder / "routes").mkdir()
    for name in ("gateway", "prefect"):
        there = names.where(chosen, "environment") if chosen.target == "compose" else where(name)
        text = (render.build(stacks[name], chosen, there).routes or b"").decode()
        text = re.sub(
            r"http://(platform-(prefect|authentik)-server-local|127\.0\.0\.1):(4200|9000)",
            f"http://127.0.0.1:{service}",
            text,
        )
        (folder / "routes" / f"{name}.yml").write_text(
            text.replace("platform-gateway-verifier-local", "127.0.0.1")
        )
    # Traefik itself, on this machine.
    local = _settings({"gateway": chosen.values["gateway"]})
    built = render.build(stacks["traefik"], local, replace(where("traefik"), routes=f"{folder}/routes"))
    (folder / "routes" / "traefik.yml").write_bytes(built.routes or b"")
    for path, body in built.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)


@contextmanager
def _traefik(folder: Path, url: str, host: str) -> Iterator[None]:
    log = folder / "traefik.log"
    command = [str(Path(sys.executable).with_name("traefik")), f"--configFile={folder}/traefik.yml"]
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=folder, env={}, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while _status(url, host) != 401:
            alive = process.poll() is None and time.monotonic() < deadline
            assert alive, log.read_text()[-2000:]
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _status(url: str, host: str) -> int:
    try:
        return httpx.get(f"{url}/auth/login", headers={"Host": host}, timeout=10).status_code
    except httpx.TransportError:
        return 0
