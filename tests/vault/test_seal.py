"""A seal of a key service: another OpenBao's transit engine, whose token is in no configuration."""

from __future__ import annotations

from pathlib import Path

from prefect_platform.secretstore.vault.setup import setup

from .bao import Server, free_port, wait_for, work
from .conftest import Ready


def test_vault_unseals_itself_by_a_key_service_with_the_given_credentials(
    ready: Ready, tmp_path: Path
) -> None:
    root = ready.root()
    root.client.call(lambda api: api.sys.enable_secrets_engine("transit"))
    root.client.call(lambda api: api.secrets.transit.create_key("unseal"))
    token = root.client.call(lambda api: api.auth.token.create(policies=["root"]))["auth"]["client_token"]

    folder = tmp_path / "server"
    (folder / "credentials").mkdir(parents=True)
    seal = {
        "type": "transit",
        "address": ready.server.address,
        "key_name": "unseal",
        "mount_path": "transit/",
    }
    server = Server(folder, free_port(), seal=seal)
    try:
        server.start()
        wait_for(lambda: "permission denied" in server.log.read_text(), "its refusal without credentials")
        server.stop()
        (folder / "credentials" / "VAULT_TOKEN").write_text(token)
        server.start()
        operator = work(tmp_path / "operator")
        assert "initialised Vault" in setup(operator, server).changes
        server.restart()
        assert setup(operator, server).changes == ()
    finally:
        server.stop()
    assert not (folder / "seal" / "key").exists()
    assert token not in (folder / "server.hcl").read_text()
