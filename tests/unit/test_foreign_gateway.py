"""A public URL that leads to somebody else's gateway: said so, not retried."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from prefect_platform.config import stack
from prefect_platform.environment.opened import Platform
from prefect_platform.environment.provisioners.prefect_objects import PrefectObjects
from prefect_platform.environment.provisioners.protocol import Ready
from prefect_platform.errors import CheckFailed
from prefect_platform.secretstore.file_store import FileStore

from .conftest import ROOT, Load, where


class _Refuses(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(401)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[str]:
    """The URL of a server that refuses every token."""
    server = HTTPServer(("127.0.0.1", 0), _Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_gateway_that_rejects_a_new_token_is_another_one(load: Load, tmp_path: Path, stranger: str) -> None:
    raw = {"environments": {"second": {"gateway": {"public_url": stranger}}}}
    issued: list[str] = []

    def run_in(_: str, words: list[str]) -> str:
        issued.append(words[2])
        return f"token{len(issued)}"

    target = SimpleNamespace(where=where, run_in=run_in, store=FileStore(tmp_path / "target"))
    platform = Platform(load(raw, env="second"), stack.read_all(ROOT), cast(Any, target), print)
    with pytest.raises(CheckFailed) as caught:
        PrefectObjects().apply(platform, Ready(1.0, lambda: None))
    assert f"{stranger}: rejects a token that this environment's gateway just issued" in caught.value.reason
    assert "something else answers there" in caught.value.reason
    assert "check platform.environments.second.gateway.public_url" in caught.value.hint
    assert {*issued} == {"create-token"}
