"""Real Postgres clusters for the tests: throw-away, with TLS, each on a free port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.gateway.process import free_port

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


@contextlib.contextmanager
def new_cluster() -> Iterator[Cluster]:
    """Running; its superuser is called gateway."""
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
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)
