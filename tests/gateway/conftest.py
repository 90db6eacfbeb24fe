from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.forge import Forge, key_entry
from tests.gateway.process import Gateway, make_gateway


@pytest.fixture(scope="module")
def entry() -> dict[str, Any]:
    return key_entry()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, entry: dict[str, Any]) -> Iterator[Gateway]:
    """One running gateway for tests that leave nothing behind which another would notice."""
    gateway = make_gateway(tmp_path_factory.mktemp("shared"), json.dumps([entry]))
    gateway.start()
    yield gateway
    _end(gateway)


@pytest.fixture(scope="module")
def forge(shared: Gateway, entry: dict[str, Any]) -> Forge:
    return Forge(entry, shared.new_token("--scope", "prefect metrics"))


@pytest.fixture
def gateway(tmp_path: Path, entry: dict[str, Any]) -> Iterator[Gateway]:
    """A gateway of the test's own, not started."""
    gateway = make_gateway(tmp_path, json.dumps([entry]))
    yield gateway
    _end(gateway)


def _end(gateway: Gateway) -> None:
    gateway.client.close()
    if gateway.process is not None:
        gateway.process.kill()
        gateway.process.wait()
