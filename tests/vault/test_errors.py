"""What a person reads when Vault refuses, is sealed, or is not there. No secret in any of it."""

from __future__ import annotations

import http.server
import ssl
import subprocess
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform.errors import ConfigError, PlatformError
from prefect_platform.secretstore.store import Secret
from prefect_platform.secretstore.vault.kv import Vault
from prefect_platform.secretstore.vault.setup import setup

from .bao import Server, free_port, wait_for, work
from .conftest import Ready

HUSH = "s.thisisnotatoken0123456789"


def test_nothing_answers() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(
        PlatformError, match=rf"Vault at {address}: cannot be reached\nhint: .*./invoke vault.setup"
    ):
        Vault(address, Secret(HUSH)).status()


def test_a_proxy_is_not_asked_for_this_machine(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert ready.vault.status().ready


def test_variables_of_the_shell_do_not_count(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", ready.token.value)
    assert not Vault(ready.server.address, None).token_works()


def test_the_token_is_wrong(ready: Ready) -> None:
    with pytest.raises(ConfigError) as raised:
        Vault(ready.server.address, Secret(HUSH)).read("platform/production/x")
    assert "the token is invalid, expired or revoked (needed for secret/data/platform/production/x)" in str(
        raised.value
    )
    assert HUSH not in "".join(traceback.format_exception(raised.value))


def test_the_token_may_not(ready: Ready) -> None:
    value = "-".join(["hush", "hush"])  # not as a whole: a traceback shows the lines of this file
    with pytest.raises(ConfigError) as raised:
        ready.vault.update("other/x", lambda values: {"A": value})
    said = str(raised.value)
    assert "permission denied: the token may not read secret/data/other/x" in said
    assert 'a policy of the token must say: path "secret/data/other/x" { capabilities = ["read"] }' in said
    assert value not in "".join(traceback.format_exception(raised.value))


def test_the_mount_is_missing(ready: Ready) -> None:
    with pytest.raises(
        PlatformError, match=r"nothing is mounted at nowhere/\nhint: [\s\S]*bao secrets enable -path=nowhere"
    ):
        ready.root("nowhere").read("platform/production/x")


def test_the_mount_is_of_another_kind(ready: Ready) -> None:
    with pytest.raises(PlatformError, match="cubbyhole/ is not a KV store of version 2"):
        ready.root("cubbyhole").ensure_kv()


def test_it_is_sealed(server: Server) -> None:
    operator = work(server.folder / "me")
    setup(operator, server)
    assert operator.token
    # Without its key it answers, sealed.
    server.stop()
    key = server.folder / "seal" / "key"
    key.write_bytes(bytes(32))
    server.start()
    wait_for(lambda: _answers(server), "an answer")
    with pytest.raises(PlatformError, match="sealed; no secret can be read or written"):
        Vault(server.address, operator.token).read("platform/production/x")
    with pytest.raises(PlatformError, match=r"sealed after 0 s\nhint: .*docker logs platform-vault"):
        setup(operator, server, 0)


def _answers(server: Server) -> bool:
    try:
        Vault(server.address, None).status()
    except PlatformError:
        return False
    return True


def test_it_is_not_initialised(server: Server) -> None:
    wait_for(lambda: _answers(server), "an answer")
    status = Vault(server.address, None).status()
    assert (status.initialised, status.ready) == (False, False)
    with pytest.raises(PlatformError, match=r"sealed; no secret can be read or written|not initialised yet"):
        Vault(server.address, Secret(HUSH)).read("platform/production/x")


def test_no_repr_tells(ready: Ready) -> None:
    shown = repr(
        (
            ready.vault,
            ready.vault.client,
            ready.store(),
            ready.token,
            ready.vault.read("platform/production/x"),
        )
    )
    assert ready.token.value not in shown


@pytest.mark.parametrize("address", ["vault.example.com:8200", "ftp://vault.example.com"])
def test_not_an_address(address: str) -> None:
    with pytest.raises(ConfigError, match=r"not an address\nhint: platform.vault.address is a URL"):
        Vault(address, None).status()


class _Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"initialized": true, "sealed": false, "standby": false, "version": "1"}')

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def private_authority(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The address of a server with a certificate of its own, and that certificate's file."""
    certificate, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=vault"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Health)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}", str(certificate)
    server.shutdown()
    server.server_close()


def test_its_authority_is_the_one_of_the_settings(private_authority: tuple[str, str]) -> None:
    address, certificate = private_authority
    assert Vault(address, None, ca_cert=certificate).status().ready
    with pytest.raises(ConfigError, match=r"certificate is not trusted\nhint: set platform.vault.ca_cert"):
        Vault(address, None).status()


def test_another_kind_of_server_answers(private_authority: tuple[str, str]) -> None:
    address, _ = private_authority
    with pytest.raises(PlatformError, match=r"Vault at .*: (answers HTTP|cannot be reached)"):
        Vault(address.replace("https", "http"), None).status()
