"""Secrets: generated once, kept, and read back by a real shell byte for byte."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from prefect_platform.config import stack
from prefect_platform.errors import PlatformError
from prefect_platform.secretstore.file_store import FileStore
from prefect_platform.secretstore.store import Secret, rotated

from .conftest import ROOT

NASTY = "p@ss w$rd\"'#%41/:?&=+\\[]{}`!~^é€\nsecond line\t"


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_any_value_survives_the_entrypoint(tmp_path: Path, shell: str) -> None:
    FileStore(tmp_path).merge("x", {"NASTY": NASTY})
    file = tmp_path / "x.env"
    assert file.stat().st_mode & 0o777 == 0o600
    command = [
        shell,
        str(ROOT / "vault" / "entrypoint.sh"),
        "python3",
        "-c",
        "import os, sys; sys.stdout.write(os.environ['NASTY'])",
    ]
    done = subprocess.run(
        command,
        env={"SECRETS_FILE": str(file), "PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == NASTY


def test_existing_values_stay_and_missing_ones_are_made(
    tmp_path: Path, stacks: dict[str, stack.Stack]
) -> None:
    store = FileStore(tmp_path)
    assert [spec.name for spec in store.missing(stacks["gateway"])] == ["GATEWAY_SIGNING_KEYS"]
    store.ensure(stacks["gateway"])
    first, version = store.read("gateway"), store.version(stacks["gateway"])
    store.ensure(stacks["gateway"])
    assert store.read("gateway") == first
    assert store.version(stacks["gateway"]) == version
    store.merge("gateway", {"GATEWAY_SIGNING_KEYS": rotated(first["GATEWAY_SIGNING_KEYS"].value)})
    assert store.version(stacks["gateway"]) != version
    kids = [key["kid"] for key in json.loads(store.read("gateway")["GATEWAY_SIGNING_KEYS"].value)]
    assert kids[1] == json.loads(first["GATEWAY_SIGNING_KEYS"].value)[0]["kid"]


def test_a_corrupt_store_is_never_overwritten(tmp_path: Path, stacks: dict[str, stack.Stack]) -> None:
    (tmp_path / "gateway.json").write_text("{half")
    with pytest.raises(PlatformError, match="corrupt, not a JSON mapping; nothing was changed"):
        FileStore(tmp_path).ensure(stacks["gateway"])
    assert (tmp_path / "gateway.json").read_text() == "{half"


def test_a_secret_does_not_show_itself() -> None:
    assert "hush" not in f"{Secret('hush')} {Secret('hush')!r}"
