"""The credentials of Vault's seal: a file of the operator that only Vault reads on the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from prefect_platform.config import seal, stack
from prefect_platform.config.rules import cross_check
from prefect_platform.config.settings import Settings
from prefect_platform.errors import ConfigError
from prefect_platform.planning import render
from prefect_platform.targets.compose import compose_file, names

from .conftest import ROOT, TRAITS, Load

KMS = {"type": "awskms", "region": "eu-central-1", "kms_key_id": "alias/vault"}
FILE = "# From the console.\nAWS_ACCESS_KEY_ID=AKIA\nAWS_SECRET_ACCESS_KEY=hunter2=\n"


def _settings(load: Load, tmp_path: Path, **vault: Any) -> Settings:
    given = tmp_path / "seal.env"
    if not given.exists():
        given.write_text(FILE)
    values = {"target": "compose", "host": "h", "domain": "example.com"}
    section = {"seal": KMS, "seal_credentials": str(given), **vault}
    return load({"environments": {"x": {**values, "vault": section}}}, env="x", root=ROOT)


def _compose(settings: Settings) -> dict[str, Any]:
    vault = stack.for_target(stack.read_all(ROOT), TRAITS["compose"])["vault"]
    built = render.build(vault, settings, names.where(settings, vault.scope, vault.name))
    text = compose_file.finish(built, names.frame(settings, vault)).files["compose.yml"].decode()
    assert "hunter2" not in text
    found: dict[str, Any] = yaml.safe_load(text)["services"]["vault"]
    return found


def test_the_files_are_named_as_the_variables_and_hold_their_values(load: Load, tmp_path: Path) -> None:
    settings = _settings(load, tmp_path)
    cross_check(settings)
    found = seal.private_files(settings)
    (folder,) = {path.partition("/")[0] for path in found}
    assert found == {f"{folder}/AWS_ACCESS_KEY_ID": b"AKIA", f"{folder}/AWS_SECRET_ACCESS_KEY": b"hunter2="}
    spec = _compose(settings)
    assert f"/opt/platform/host/vault/private/{folder}:/credentials:ro" in spec["volumes"]
    # A key service is outside; the agents' network has no way out.
    assert spec["networks"] == ["platform-vault", "platform-vault-keys"]


def test_other_contents_restart_vault(load: Load, tmp_path: Path) -> None:
    before = _compose(_settings(load, tmp_path))
    (tmp_path / "seal.env").write_text(FILE.replace("AKIA", "OTHER"))
    assert _compose(_settings(load, tmp_path)) != before


def test_the_static_seal_has_neither(load: Load, tmp_path: Path) -> None:
    spec = _compose(_settings(load, tmp_path, seal={"type": "static"}, seal_credentials=None))
    assert spec["networks"] == ["platform-vault"]
    assert "/credentials" not in str(spec["volumes"])


@pytest.mark.parametrize(
    ("vault", "text", "message"),
    [
        ({"seal": {"type": "static"}}, FILE, "another seal than static"),
        ({"address": "https://vault.example.com"}, FILE, "our own Vault"),
        ({"seal_credentials": "nowhere.env"}, FILE, "no such file: nowhere.env"),
        ({}, "export A=b\n", "seal.env:1: not NAME=value"),
    ],
)
def test_what_cannot_be_used_is_refused(
    load: Load, tmp_path: Path, vault: dict[str, Any], text: str, message: str
) -> None:
    (tmp_path / "seal.env").write_text(text)
    with pytest.raises(ConfigError) as caught:
        cross_check(_settings(load, tmp_path, **vault))
    assert message in caught.value.reason
