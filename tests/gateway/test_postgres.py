"""The same gateway on a real Postgres: a throw-away cluster of its own, with TLS, on a free port."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.gateway.forge import Forge
from tests.gateway.process import Gateway, free_port

PASSWORD = "p%40ss/word"  # as a URL spells p@ss/word, so that quoting is tried too
CONFIG = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
ssl = on
fsync = off
max_connections = 40
"""
# TLS only: a client that ignores sslmode is turned away.
ACCESS = "hostssl all all 127.0.0.1/32 scram-sha-256\n"


@dataclass
class Cluster:
    folder: Path
    binaries: Path
    port: int

    @property
    def user(self) -> str | None:
        """Postgres refuses to run as root."""
        return "nobody" if os.geteuid() == 0 else None

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self.binaries / program), *arguments]
        with (self.folder / "run.log").open("ab") as log:
            subprocess.run(
                command, user=self.user, cwd=self.folder, stdout=log, stderr=log, check=True, timeout=90
            )

    def start(self) -> None:
        server = self.folder / "server.log"
        options = f"-p {self.port}"
        self.run("pg_ctl", "start", "-w", "-D", str(self.folder / "data"), "-l", str(server), "-o", options)

    def stop(self) -> None:
        self.run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self.folder / "data"))

    def url(self, database: str, password: str = PASSWORD, query: str = "sslmode=require") -> str:
        return f"postgres://gateway:{password}@127.0.0.1:{self.port}/{database}?{query}"

    def sql(self, database: str, statement: str) -> list[Any]:
        async def ask() -> list[Any]:
            connection = await asyncpg.connect(
                host="127.0.0.1",
                port=self.port,
                user="gateway",
                password="p@ss/word",
                database=database,
                ssl="require",
            )
            try:
                return [tuple(row) for row in await connection.fetch(statement)]
            finally:
                await connection.close()

        return asyncio.run(ask())


def find_binaries() -> Path:
    found = shutil.which("initdb")
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert found or candidates, "these tests need Postgres: apt-get install postgresql"
    return Path(found).resolve().parent if found else candidates[-1].parent


def certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "postgres.test")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    signed = builder.sign(key, hashes.SHA256())
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    (folder / "server.key").chmod(0o600)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Not below pytest's own folder: that is closed to the user who runs the server.
    folder = Path(tempfile.mkdtemp(prefix="gateway-postgres-"))
    cluster = Cluster(folder, find_binaries(), free_port())
    (folder / "password").write_text("p@ss/word")
    certificate(folder)
    if cluster.user:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, cluster.user)
    data = str(folder / "data")
    cluster.run(
        "initdb",
        "-D",
        data,
        "-U",
        "gateway",
        "--pwfile",
        str(folder / "password"),
        "-A",
        "scram-sha-256",
        "-N",
    )
    for name in ("server.crt", "server.key"):
        (folder / name).rename(folder / "data" / name)
    with (folder / "data" / "postgresql.conf").open("a") as config:
        config.write(CONFIG)
    (folder / "data" / "pg_hba.conf").write_text(ACCESS)
    cluster.start()
    yield cluster
    cluster.stop()
    shutil.rmtree(folder)


@pytest.fixture
def postgres(gateway: Gateway, cluster: Cluster, request: pytest.FixtureRequest) -> Gateway:
    """The test's gateway on an empty database of its own."""
    database = "t" + request.node.name.replace("test_", "")[:40]
    cluster.sql("postgres", f'CREATE DATABASE "{database}"')
    gateway.env["GATEWAY_DATABASE_URL"] = cluster.url(database)
    return gateway


def database_of(gateway: Gateway) -> str:
    return gateway.env["GATEWAY_DATABASE_URL"].rpartition("/")[2].partition("?")[0]


def test_issue_verify_revoke(postgres: Gateway, cluster: Cluster) -> None:
    postgres.start()
    token = postgres.new_token("--description", "Modal GPU workers")
    admitted = postgres.verify(token)
    assert admitted.status_code == 200
    postgres.cli("revoke-token", admitted.headers["X-Platform-Token-Id"][:8])
    assert postgres.status_within(5, token, 401) == 401
    assert postgres.stop() == 0
    query = "SELECT project, last_used_at IS NOT NULL, revoked_at >= issued_at FROM gateway_tokens"
    assert cluster.sql(database_of(postgres), query) == [("captionacc", True, True)]


def test_times_are_timestamps_with_a_zone(postgres: Gateway, cluster: Cluster) -> None:
    postgres.new_token()
    query = "SELECT pg_typeof(expires_at)::text, abs(extract(epoch FROM now() - issued_at)) < 3600 FROM gateway_tokens"
    assert cluster.sql(database_of(postgres), query) == [("timestamp with time zone", True)]


def test_the_tables_are_closed_to_other_roles(postgres: Gateway, cluster: Cluster) -> None:
    """Supabase serves the public schema to its anonymous role unless row level security is on."""
    postgres.new_token()
    query = "SELECT relrowsecurity FROM pg_class WHERE relname IN ('gateway_tokens', 'gateway_login_codes')"
    assert cluster.sql(database_of(postgres), query) == [(True,), (True,)]


def test_a_login_link_works_once_among_many(postgres: Gateway) -> None:
    postgres.start()
    path = postgres.login_path()
    with ThreadPoolExecutor(8) as pool:
        statuses = [response.status_code for response in pool.map(postgres.get, [path] * 16)]
    assert sorted(statuses) == [303] + [401] * 15


def test_first_starts_at_once_agree_on_the_tables(postgres: Gateway) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: postgres.new_token(), range(4)))


def test_a_wrong_password_is_one_line_without_it(postgres: Gateway, cluster: Cluster) -> None:
    wrong = cluster.url("postgres", password="sesame")
    for command in (["serve"], ["list-tokens"]):
        done = postgres.cli(*command, check=False, GATEWAY_DATABASE_URL=wrong)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert "password authentication failed" in done.stderr
        assert "sesame" not in done.stderr


def test_verify_full_does_not_take_any_certificate(postgres: Gateway, cluster: Cluster) -> None:
    strict = cluster.url("postgres", query="sslmode=verify-full")
    done = postgres.cli("list-tokens", check=False, GATEWAY_DATABASE_URL=strict)
    assert done.returncode == 1
    assert "certificate" in done.stderr.lower()


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2", "postgresql+asyncpg"])
def test_every_flavour_of_url(postgres: Gateway, scheme: str) -> None:
    url = postgres.env["GATEWAY_DATABASE_URL"].replace("postgres", scheme, 1)
    extra = "&pgbouncer=true&connect_timeout=10&application_name=ours"
    assert postgres.cli("list-tokens", GATEWAY_DATABASE_URL=url + extra).returncode == 0


def test_a_server_that_is_away_is_waited_for(
    postgres: Gateway, cluster: Cluster, entry: dict[str, Any]
) -> None:
    token = postgres.new_token()
    cluster.stop()
    try:
        postgres.start(wait_for="closed")
        assert postgres.verify(token).status_code == 503
        assert postgres.verify("garbage").status_code == 401
    finally:
        cluster.start()
    assert postgres.status_within(20, token, 200) == 200
    unknown = Forge(entry, token).sign({"jti": "0" * 32})
    assert postgres.verify(unknown).status_code == 401
    cluster.stop()
    try:
        assert postgres.status_within(15, unknown, 503) == 503
        assert postgres.verify(token).status_code == 200
    finally:
        cluster.start()
    assert postgres.status_within(20, unknown, 401) == 401
    assert postgres.verify(token).status_code == 200
