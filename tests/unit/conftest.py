"""Fixtures of the pure tests: the repository's own stacks and settings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from prefect_platform.config import settings, stack
from prefect_platform.planning.where import Where
from prefect_platform.targets import traits

from .rules import ENV, FakeHost

ROOT = Path(__file__).resolve().parents[2]
TRAITS = traits()
Load = Callable[..., settings.Settings]


@pytest.fixture(scope="session")
def stacks(schema: dict[str, Any]) -> dict[str, stack.Stack]:
    """As target local runs them with nothing set."""
    values = settings.load(ROOT, {}, schema, "local", {}, TRAITS).values
    there = stack.for_target(stack.read_all(ROOT), TRAITS["local"])
    return {name: each.as_set(values[each.section]) for name, each in there.items()}


@pytest.fixture(scope="session")
def schema() -> dict[str, Any]:
    return settings.platform_schema(
        {each.section: each.schema() for each in stack.read_all(ROOT).values()}, TRAITS
    )


@pytest.fixture
def load(tmp_path: Path, schema: dict[str, Any]) -> Load:
    """Settings from a mapping (and what stands in tmp_path/invoke.yaml, for the places in messages)."""

    def from_mapping(
        raw: Mapping[str, Any],
        env: str = "local",
        environ: Mapping[str, str] | None = None,
        root: Path = tmp_path,
    ) -> settings.Settings:
        return settings.load(root, raw, schema, env, environ or {}, TRAITS)

    return from_mapping


def where(name: str) -> Where:
    """Paths as they would be in a clone at /srv/prefect-platform: goldens must not depend on the machine."""
    state = "/srv/prefect-platform/.state/local"
    runtime = "/srv/prefect-platform/.state/runtime/0123456789ab"
    return Where(
        "combined",
        f"{runtime}/bin/python",
        f"{runtime}/bin/traefik",
        "/srv/prefect-platform/vault/entrypoint.sh",
        f"{runtime}/prefect-template.db",
        f"{state}/stacks/{name}",
        f"{state}/data/{name}",
        f"{state}/stacks/routes",
        f"{state}/secrets/{name}.env",
    )


@pytest.fixture
def fake(tmp_path: Path, load: Load) -> FakeHost:
    """A host of the compose target whose files are in a temporary folder and whose Docker is scripted."""
    (tmp_path / "host").mkdir()
    values = {"target": "compose", "host": "host", "root": str(tmp_path), "domain": "example.com"}
    return FakeHost(tmp_path, load({"environments": {ENV: values}}, env=ENV, root=ROOT))


@pytest.fixture
def healthy_port() -> Iterator[int]:
    """Of a server that is well at /base/ready only."""

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/base/ready" else 503)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()
