"""What a client says of itself in X-Forwarded-… headers is not what the verifier is told, behind a proxy that is trusted too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import yaml

from tests.gateway.forge import key_entry
from tests.gateway.process import make_gateway

from .conftest import STACK, Platform, free_port, runtime_python, wait_for

ROUTES = Path(__file__).resolve().parents[1] / "fly" / "golden" / "routes-gateway.yml"
DOOR = "browser-prefect"
VERIFIER = "http://127.0.0.1:8097"
PLUGINS = STACK.parent / "traefik"
"""Traefik looks for `plugins-local` where it is started."""


class _Prefect(BaseHTTPRequestHandler):
    """Answers whatever reaches it."""

    def _answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Prefect) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def reader(platform: Platform, upstream: int) -> Iterator[httpx.Client]:
    """A client with a token that may only read, of a Traefik with the middlewares that target fly renders."""
    gateway = make_gateway(platform.folder, json.dumps([key_entry()]))
    port, text = free_port(), ROUTES.read_text().replace(VERIFIER, gateway.url)
    made = yaml.safe_load(text)["http"]["middlewares"]
    router = {"rule": "PathPrefix(`/`)", "service": "prefect", "middlewares": ["drop-identity", DOOR]}
    service = {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{upstream}"}]}}
    dynamic: dict[str, Any] = {
        "routers": {"prefect": router},
        "services": {"prefect": service},
        "middlewares": {
            name: made[name] for name in ("drop-identity", DOOR, *made[DOOR]["chain"]["middlewares"])
        },
    }
    trusted = {"address": f"127.0.0.1:{port}", "forwardedHeaders": {"trustedIPs": ["127.0.0.0/8"]}}
    static = {
        "entryPoints": {"web": trusted},
        "experimental": {
            "abortOnPluginFailure": True,
            "localPlugins": {"admission": {"moduleName": "admission"}},
        },
        "providers": {"file": {"filename": str(platform.folder / "dynamic.yml")}},
    }
    (platform.folder / "dynamic.yml").write_text(yaml.safe_dump({"http": dynamic}))
    (platform.folder / "static.yml").write_text(yaml.safe_dump(static))
    traefik = str(Path(runtime_python()).with_name("traefik"))
    token = gateway.new_token("--scope", "prefect:read")
    gateway.start()
    config = f"--configFile={platform.folder / 'static.yml'}"
    platform.run("traefik", ["env", f"--chdir={PLUGINS}", traefik, config])
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"}
        ) as client:
            wait_for(lambda: client.get("/prefect/api/admin/version").status_code == 200, "the door")
            yield client
    finally:
        gateway.client.close()
        gateway.stop()


def test_a_reader_cannot_say_that_it_reads(reader: httpx.Client) -> None:
    said = {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/prefect/api/admin/version"}
    assert (
        reader.post("/prefect/api/flow_runs/filter", headers={"X-Forwarded-Method": "POST"}).status_code
        == 200
    )
    for headers in (said, {name.lower(): value for name, value in said.items()}):
        assert reader.post("/prefect/api/flow_runs/", headers=headers).status_code == 403
        assert reader.delete("/prefect/api/flows/x", headers=headers).status_code == 403
        assert reader.get("/prefect/", headers=headers).status_code == 403
