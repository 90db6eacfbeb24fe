"""With several API servers, what is about deferred task runs reaches one of them: Prefect keeps their queue in one process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from prefect_platform.config import settings, stack
from prefect_platform.planning import render
from prefect_platform.targets import traits
from prefect_platform.targets.compose import names

from .conftest import Process, free_port, runtime_python, wait_for

ROOT = Path(__file__).resolve().parents[2]
HOST = "prefect.example.com"
DEFERRED = (
    "/api/task_runs/",
    "/api/task_runs/3f9c2a1b-0000-4000-8000-000000000000/set_state",
    "/api/task_runs/subscriptions/scheduled",
    "/api/task_workers/filter",
)
OTHERS = ("/api/task_runs/filter", "/api/flow_runs/", "/api/task_runs/count", "/api/task_runs/x/set_state/y")


def _routes(auth: str, replicas: int) -> Any:
    schema = settings.platform_schema(
        {each.section: each.schema() for each in stack.read_all(ROOT).values()}, traits()
    )
    values = {
        "target": "compose",
        "host": "host",
        "domain": "example.com",
        "prefect": {"replicas": replicas, "auth": auth},
    }
    chosen = settings.load(ROOT, values, schema, "local", {}, traits())
    prefect = stack.for_target(stack.read_all(ROOT), chosen.traits)["prefect"].as_set(
        chosen.values["prefect"]
    )
    built = render.build(prefect, chosen, names.where(chosen, prefect.scope))
    assert built.routes
    return yaml.safe_load(built.routes)["http"]


@contextmanager
def _backend(name: str) -> Iterator[str]:
    """Answers its name to anything."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(name.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _traefik(http: Any, folder: Path) -> Iterator[httpx.Client]:
    """With these routes. The guards are not under test here: each lets everybody through."""
    guards = {name for router in http["routers"].values() for name in router["middlewares"]}
    http["middlewares"] = {name: {"headers": {"customRequestHeaders": {"X-Guard": name}}} for name in guards}
    http["serversTransports"] = {"near": {}}
    for router in http["routers"].values():
        router["entryPoints"] = ["web"]
    (folder / "routes.yml").write_text(yaml.safe_dump({"http": http}))
    port = free_port()
    words = [f"--entrypoints.web.address=127.0.0.1:{port}", f"--providers.file.filename={folder}/routes.yml"]
    process = Process([str(Path(runtime_python()).with_name("traefik")), *words], {}, folder / "traefik.log")
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Host": http_host(http)}) as client:
            wait_for(lambda: client.post("/api/flow_runs/").status_code == 200, "Traefik has its routes")
            yield client
    finally:
        process.end()


def http_host(http: Any) -> str:
    rule = next(iter(http["routers"].values()))["rule"]
    return str(rule.split("Host(`")[1].split("`")[0])


@pytest.mark.parametrize("auth", ["login-link", "sso-or-token"])
def test_one_server_is_asked_about_deferred_task_runs(auth: str, tmp_path: Path) -> None:
    http = _routes(auth, 2)
    routers = http["routers"]
    for name in [name for name in routers if name.endswith("-deferred")]:
        stock = routers[name.removesuffix("-deferred")]
        assert routers[name]["middlewares"] == stock["middlewares"], "the same guards"
        assert routers[name]["priority"] == stock["priority"] + 1
    with (
        _backend("first") as first,
        _backend("second") as second,
        _traefik_of(http, first, second, tmp_path) as ask,
    ):
        for headers in ({}, {"Authorization": "Bearer x"}):
            for path in DEFERRED:
                assert _asked(ask, path, headers) == {"first": 6}, path
            for path in OTHERS:
                assert _asked(ask, path, headers) == {"first": 3, "second": 3}, path


def _traefik_of(http: Any, first: str, second: str, folder: Path) -> Any:
    for name, service in http["services"].items():
        urls = [first] if name.endswith("-first") else [first, second]
        assert len(service["loadBalancer"]["servers"]) == len(urls)
        service["loadBalancer"]["servers"] = [{"url": url} for url in urls]
    return _traefik(http, folder)


def _asked(client: httpx.Client, path: str, headers: dict[str, str]) -> Counter[str]:
    return Counter(client.post(path, headers=headers).text for _ in range(6))


def test_one_server_alone_needs_no_routes_for_them() -> None:
    http = _routes("login-link", 1)
    assert not [
        name for name in (*http["routers"], *http["services"]) if name.endswith(("-deferred", "-first"))
    ]
