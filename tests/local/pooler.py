"""PostgreSQL elsewhere, for the tests: a real one behind a real pgbouncer that hands out connections for one transaction at a time, with the
URL as Supabase gives it.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.postgres import Cluster, new_cluster

from .conftest import Clone, free_ports

USER, PASSWORD = "postgres.abcdefgh", "p@ss w$rd'#%41/:?&=+"
POOLER_PORT = 6543
POOLER = """[databases]
* = host=127.0.0.1 port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {pooler}
pool_mode = transaction
auth_type = scram-sha-256
auth_file = {folder}/users.txt
client_tls_sslmode = require
client_tls_key_file = {folder}/server.key
client_tls_cert_file = {folder}/server.crt
server_tls_sslmode = require
ignore_startup_parameters = extra_float_digits
default_pool_size = 8
{more}
unix_socket_dir =
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with new_cluster() as made:
        literal = PASSWORD.replace("'", "''")
        made.sql("postgres", f"CREATE ROLE \"{USER}\" LOGIN PASSWORD '{literal}'")
        made.sql("postgres", f'GRANT CREATE ON DATABASE postgres TO "{USER}"')
        made.sql("postgres", f'GRANT ALL ON SCHEMA public TO "{USER}"')
        yield made


@pytest.fixture(scope="module")
def pooler(cluster: Cluster) -> Iterator[Path]:
    """Its folder, with the log."""
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    assert Path(program).exists(), "pgbouncer is needed: .ci/install-debian"
    folder = Path(tempfile.mkdtemp(prefix="pooler-"))
    for name in ("server.key", "server.crt"):
        shutil.copy(cluster.folder / "data" / name, folder / name)
    doubled = PASSWORD.replace('"', '""')
    (folder / "users.txt").write_text(f'"{USER}" "{doubled}"\n')
    (folder / "pgbouncer.ini").write_text(
        POOLER.format(port=cluster.port, pooler=POOLER_PORT, folder=folder, more=_knows_none(program))
    )
    for path in (folder, *folder.iterdir()):
        if cluster.user:
            shutil.chown(path, cluster.user)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, str(folder / "pgbouncer.ini")], user=cluster.user, stdout=log, stderr=log
        )
        try:
            _wait_for(POOLER_PORT)
            yield folder
        finally:
            process.terminate()
            process.wait(20)
    shutil.rmtree(folder)


def _knows_none(program: str) -> str:
    """The setting with which newer ones remember no prepared statement; older ones cannot do it anyway."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = (int(part) for part in said.split()[1].split(".")[:2])
    return "max_prepared_statements = 0" if (major, minor) >= (1, 21) else ""


def _wait_for(port: int) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < end, "pgbouncer does not listen"
            time.sleep(0.1)


class Elsewhere:
    """An environment of the clone, whose database can be behind the pooler."""

    def __init__(self, clone: Clone, name: str) -> None:
        self.clone, self.name = clone, name
        self.state = clone.root / ".state" / name
        names = ("port", "verifier_port", "auth_port", "ops_port")
        *gateway, prefect = free_ports(5)
        self.url = f"http://127.0.0.1:{gateway[0]}"
        self.settings: dict[str, Any] = {
            "gateway": dict(zip(names, gateway, strict=True)),
            "prefect": {"port": prefect},
        }

    def declare(self, url: str | None) -> None:
        self.settings["prefect"]["database_url"] = url
        self.clone.settings["environments"] = {self.name: self.settings}
        self.clone.write()

    def invoke(
        self, *words: str, code: int | None = 0, password: str = ""
    ) -> subprocess.CompletedProcess[str]:
        command = (words[0], "--env", self.name, *words[1:])
        if password:
            return self.clone.invoke(*command, code=code, PREFECT_SERVER_DATABASE_PASSWORD=password)
        return self.clone.invoke(*command, code=code)

    def client(self) -> httpx.Client:
        """Prefect's API as a client with a token of its own reaches it."""
        made = self.invoke("gateway.create-token", "--project", "tests", "--service", "runs").stdout.strip()
        headers = {"Authorization": f"Bearer {made}"}
        return httpx.Client(base_url=f"{self.url}/prefect/api", headers=headers, timeout=60)

    def remove(self) -> None:
        self.invoke("prefect.remove", "--yes", "--data", code=None)
        del self.clone.settings["environments"]
        self.clone.write()


def url_of(database: str) -> str:
    return f"postgresql://{USER}@127.0.0.1:{POOLER_PORT}/{database}?sslmode=require"
