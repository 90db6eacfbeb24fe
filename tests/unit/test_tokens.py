"""What a token may be asked for, and what may be taken for one."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefect_platform.environment.opened import open_platform
from prefect_platform.errors import ConfigError
from prefect_platform.operations import tokens
from prefect_platform.targets.docker import vault_access

from .conftest import ROOT

ROUTES = [
    {"name": "example-api", "path": "/a", "url": "http://a:1", "auth": "token"},
    {"name": "example-both", "path": "/b", "url": "http://b:1", "auth": "token"},
    {"name": "example-open", "path": "/c", "url": "http://c:1", "auth": "public"},
]


def test_a_scope_that_opens_nothing_is_refused_with_those_that_do() -> None:
    platform = open_platform(ROOT, {"gateway": {"routes": ROUTES}}, "local", {}, lambda line: None, None, [])
    tokens.require_scopes(platform, "prefect example-api metrics")
    for wrong in ("nope", "example-open"):
        with pytest.raises(ConfigError, match=wrong) as refused:
            tokens.require_scopes(platform, f"prefect {wrong}")
        assert "prefect, prefect:read, metrics, example-api, example-both" in refused.value.hint


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


SHAPED = f"{_part({'kid': 'k', 'alg': 'EdDSA'})}.{_part({'jti': 'j'})}.c2lnbmVk"


@pytest.mark.parametrize(
    "text", ["", "none", "a.b", "a.b.c", f"{SHAPED}.x", f" {SHAPED}", f"{SHAPED}\n", SHAPED.replace(".", " ")]
)
def test_what_is_no_token_is_refused_and_not_quoted(text: str) -> None:
    tokens.require_token(SHAPED)
    with pytest.raises(ConfigError) as refused:
        tokens.require_token(text)
    assert "create-token" in refused.value.hint
    assert not text or repr(text) not in refused.value.message


@pytest.mark.parametrize(
    ("onto", "says"),
    [
        ("2>/dev/null", "it goes to /dev/null"),
        ("2>&-", "Bad file descriptor"),
        ("2>/dev/full", "No space left on device"),
        ("2>FILE", ""),
    ],
)
def test_recovery_keys_are_not_forgotten_unseen(tmp_path: Path, onto: str, says: str) -> None:
    """Vault's, which are shown once, on standard error."""
    code = f"from {vault_access.__name__} import _unseen; print(_unseen())"
    line = f'"$0" -c "$1" {onto.replace("FILE", str(tmp_path / "messages"))}'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, code], stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout == f"{says}\n"


def test_recovery_keys_are_not_forgotten_when_the_reader_is_gone() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    code = f"from {vault_access.__name__} import _unseen; print(_unseen())"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=writes, text=True, check=True
    )
    os.close(writes)
    assert done.stdout == "Broken pipe\n"
