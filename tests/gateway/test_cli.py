"""The command line: what goes to stdout, what is refused, and that no secret ends up in an error."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from tests.gateway.forge import decode
from tests.gateway.process import Gateway

NEEDED = ["GATEWAY_DATABASE_URL", "GATEWAY_SIGNING_KEYS", "GATEWAY_ISSUER", "GATEWAY_PUBLIC_URL"]


def create(gateway: Gateway, **options: str) -> subprocess.CompletedProcess[str]:
    chosen = {"project": "example-app", "service": "worker", **options}
    words = [word for name, value in chosen.items() for word in (f"--{name}", value)]
    return gateway.cli("create-token", *words, check=False)


def test_only_the_token_goes_to_stdout(gateway: Gateway) -> None:
    done = create(gateway, description="GPU workers", expires="90d")
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", done.stdout)
    assert "example-app/worker" in done.stderr
    assert done.stdout.strip() not in done.stderr


def test_json_tells_id_and_expiry(gateway: Gateway) -> None:
    done = gateway.cli("create-token", "--project", "a", "--service", "b", "--expires", "12h", "--json")
    told = json.loads(done.stdout)
    claims = json.loads(decode(told["token"].split(".")[1]))
    assert told["jti"] == claims["jti"]
    assert claims["exp"] - claims["iat"] == 12 * 3600
    assert datetime.fromisoformat(told["expires_at"]).timestamp() == claims["exp"]
    assert (claims["sub"], claims["scope"], claims["aud"]) == ("a/b", "prefect", "platform-test")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("project", ""),
        ("project", "a/b"),
        ("project", "x" * 64),
        ("service", "with space"),
        ("service", "line\nbreak"),
        ("description", "x" * 201),
        ("description", "\x1b[31mred"),
        ("scope", ""),
        ("scope", "two  spaces"),
        ("expires", "0d"),
        ("expires", "90"),
        ("expires", "6y"),
        ("expires", "1900d"),
        ("expires", "-1d"),
    ],
)
def test_what_makes_no_sense_is_refused(gateway: Gateway, option: str, value: str) -> None:
    words = ["--project=a", "--service=b", f"--{option}={value}"]
    done = gateway.cli("create-token", *words, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--{option}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not gateway.database.exists()


def test_listing_shows_everything_but_the_token(gateway: Gateway) -> None:
    token = gateway.new_token("--description", "GPU workers")
    other = gateway.new_token("--expires", "1s")
    told = json.loads(gateway.cli("list-tokens", "--all", "--json").stdout)
    assert {entry["project"] for entry in told} == {"example-app"}
    assert set(told[0]) == {
        *("jti", "kind", "subject", "project", "service", "description", "scope", "state"),
        *("issued_at", "expires_at", "revoked_at", "last_used_at"),
    }
    assert datetime.fromisoformat(told[0]["issued_at"]).utcoffset() is not None
    table = gateway.cli("list-tokens", "--all").stdout
    assert "GPU workers" in table
    for text in (table, json.dumps(told)):
        assert token.split(".")[2] not in text
        assert other.split(".")[2] not in text


def test_listing_leaves_out_what_no_longer_works(gateway: Gateway) -> None:
    gateway.new_token("--description", "kept")
    gateway.new_token("--description", "revoked")
    told = json.loads(gateway.cli("list-tokens", "--json").stdout)
    [gone] = [entry["jti"] for entry in told if entry["description"] == "revoked"]
    gateway.cli("revoke-token", gone)
    assert [entry["description"] for entry in json.loads(gateway.cli("list-tokens", "--json").stdout)] == [
        "kept"
    ]
    states = [entry["state"] for entry in json.loads(gateway.cli("list-tokens", "--all", "--json").stdout)]
    assert sorted(states) == ["active", "revoked"]


def test_revoking_twice_says_so(gateway: Gateway) -> None:
    gateway.new_token()
    [entry] = json.loads(gateway.cli("list-tokens", "--json").stdout)
    assert "revoked at" in gateway.cli("revoke-token", entry["jti"]).stderr
    assert "already revoked" in gateway.cli("revoke-token", entry["jti"][:8].upper()).stderr


@pytest.mark.parametrize("wrong", ["0" * 32, "1234567", "%%%%%%%%", "not-a-token-id"])
def test_revoking_what_is_not_there_fails(gateway: Gateway, wrong: str) -> None:
    gateway.new_token()
    done = gateway.cli("revoke-token", wrong, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_an_ambiguous_prefix_revokes_nothing(gateway: Gateway) -> None:
    gateway.new_token()
    gateway.new_token()
    gateway.sql("UPDATE gateway_tokens SET jti = 'abcdef01' || substr(jti, 9)")
    done = gateway.cli("revoke-token", "abcdef01", check=False)
    assert done.returncode == 2
    assert "2 tokens" in done.stderr
    assert gateway.sql("SELECT count(revoked_at) FROM gateway_tokens") == [(0,)]


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("command", [["serve"], ["create-token", "--project", "a", "--service", "b"]])
def test_a_missing_setting_is_named(gateway: Gateway, name: str, command: list[str]) -> None:
    done = gateway.cli(*command, check=False, **{name: ""})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"gateway: {name}: not set\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_SIGNING_KEYS", "sesame"),
        ("GATEWAY_SIGNING_KEYS", "[]"),
        ("GATEWAY_SIGNING_KEYS", '[{"kid": "a", "created": 1, "d": "sesame"}]'),
        ("GATEWAY_SIGNING_KEYS", '[{"kid": "a", "d": "sesame"}]'),
        ("GATEWAY_DATABASE_URL", "mysql://u:sesame@host/db"),
        ("GATEWAY_DATABASE_URL", "sqlite://"),
        ("GATEWAY_DATABASE_URL", "sqlite:///:memory:"),
        ("GATEWAY_DATABASE_URL", "postgresql://u:sesame@host:port/db"),
        ("GATEWAY_DATABASE_URL", "postgresql://u:sesame@host/db?sslmode=maybe"),
        ("GATEWAY_DATABASE_URL", "postgresql://u:sesame@host/db?surprise=1"),
        ("GATEWAY_PUBLIC_URL", "ftp://host"),
        ("GATEWAY_PUBLIC_URL", "http://host/path"),
        ("GATEWAY_PUBLIC_URL", "http://host:port"),
        ("GATEWAY_PORT", "0"),
        ("GATEWAY_PORT", "http"),
        ("GATEWAY_HOME_PATH", "//evil.test/"),
        ("GATEWAY_HOME_PATH", "/\\evil.test/"),
        ("GATEWAY_HOME_PATH", "https://evil.test/"),
    ],
)
def test_a_malformed_setting_is_named_and_never_quoted(gateway: Gateway, name: str, value: str) -> None:
    done = gateway.cli("serve", check=False, **{name: value})
    assert done.returncode == 2
    assert done.stderr.startswith(f"gateway: {name}")
    assert len(done.stderr.splitlines()) == 1
    assert "sesame" not in done.stderr


def test_a_corrupt_database_is_named(gateway: Gateway) -> None:
    gateway.database.write_bytes(b"this is no database\n" * 500)
    for command in (["serve"], ["list-tokens"]):
        done = gateway.cli(*command, check=False)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert str(gateway.database) in done.stderr
    assert gateway.database.read_bytes().startswith(b"this is no database")


def test_a_missing_folder_is_named(gateway: Gateway, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/nowhere/gateway.db"
    done = gateway.cli("list-tokens", check=False, GATEWAY_DATABASE_URL=url)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert f"{tmp_path}/nowhere/gateway.db" in done.stderr


def test_a_path_with_odd_characters_is_a_path(gateway: Gateway, tmp_path: Path) -> None:
    folder = tmp_path / "a b#c%d"
    folder.mkdir()
    gateway.env["GATEWAY_DATABASE_URL"] = f"sqlite:///{folder}/gateway.db"
    gateway.new_token()
    assert (folder / "gateway.db").stat().st_size > 0
    assert (folder / "gateway.db").stat().st_mode & 0o777 == 0o600


def test_a_taken_port_is_an_error(gateway: Gateway) -> None:
    gateway.start()
    done = gateway.cli("serve", check=False)
    assert done.returncode != 0
    assert gateway.env["GATEWAY_PORT"] in done.stderr


def test_help_loads_nothing_heavy() -> None:
    """The command line is behind every gateway task: a typing mistake must not cost the import of an engine."""
    code = (
        "import sys; from prefect_platform.gateway.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('sqlalchemy', 'jwt', 'cryptography', 'uvicorn', 'starlette') if m in sys.modules])"
    )
    env = {"PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_package_runs_alone(tmp_path: Path, gateway: Gateway) -> None:
    """It is copied into the bundle without the rest of prefect_platform."""
    source = Path(__file__).resolve().parents[2] / "src" / "prefect_platform" / "gateway"
    target = tmp_path / "bundle" / "prefect_platform" / "gateway"
    target.mkdir(parents=True)
    for file in source.glob("*.py"):
        (target / file.name).write_bytes(file.read_bytes())
    assert gateway.cli("list-tokens", PYTHONPATH=str(tmp_path / "bundle")).returncode == 0
