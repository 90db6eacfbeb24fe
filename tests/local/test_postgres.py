"""Prefect's database elsewhere: a real Postgres behind a real pgbouncer that hands out connections for one transaction at a time, with the
URL as Supabase gives it.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.postgres import Cluster, new_cluster

from .conftest import Clone, free_ports

pytestmark = pytest.mark.timeout(600)
USER, PASSWORD = "postgres.abcdefgh", "p@ss w$rd'#%41/:?&=+"
POOLER_PORT = 6543
POOLER = """[databases]
postgres = host=127.0.0.1 port={port} dbname=postgres
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
    """The clone's environment `pooled`, whose database is behind the pooler."""

    def __init__(self, clone: Clone) -> None:
        self.clone = clone
        names = ("port", "verifier_port", "auth_port", "ops_port")
        *gateway, prefect = free_ports(5)
        self.url = f"http://127.0.0.1:{gateway[0]}"
        self.settings: dict[str, Any] = {
            "gateway": dict(zip(names, gateway, strict=True)),
            "prefect": {"port": prefect},
        }

    def declare(self, url: str) -> None:
        self.settings["prefect"]["database_url"] = url
        self.clone.settings["environments"] = {"pooled": self.settings}
        self.clone.write()

    def invoke(
        self, *words: str, code: int | None = 0, password: str = ""
    ) -> subprocess.CompletedProcess[str]:
        command = (words[0], "--env", "pooled", *words[1:])
        if password:
            return self.clone.invoke(*command, code=code, PREFECT_SERVER_DATABASE_PASSWORD=password)
        return self.clone.invoke(*command, code=code)


@pytest.fixture(scope="module")
def elsewhere(
    clone: Clone, first_setup: subprocess.CompletedProcess[str], pooler: Path
) -> Iterator[Elsewhere]:
    made = Elsewhere(clone)
    made.declare(f"postgresql://{USER}@127.0.0.1:{POOLER_PORT}/postgres?sslmode=require")
    yield made
    made.invoke("prefect.remove", "--yes", "--data", code=None)
    del clone.settings["environments"]
    clone.write()


def test_without_its_password_nothing_is_begun(elsewhere: Elsewhere) -> None:
    said = elsewhere.invoke("prefect.setup", code=3).stderr
    assert "read -rs PREFECT_SERVER_DATABASE_PASSWORD" in said
    assert not (elsewhere.clone.root / ".state" / "pooled" / "data").exists()


def test_a_wrong_password_is_one_line(elsewhere: Elsewhere) -> None:
    failed = elsewhere.invoke("prefect.setup", code=5, password="not-the-password")
    said = failed.stdout + failed.stderr
    assert f"127.0.0.1:{POOLER_PORT}/postgres: refuses the password of {USER}" in said
    assert "not-the-password" not in said
    assert "Traceback" not in said


def test_it_runs_behind_a_pooler(elsewhere: Elsewhere, pooler: Path) -> None:
    done = elsewhere.invoke("prefect.setup", password=PASSWORD)
    assert "its task run is recorded" in done.stdout
    assert "is read as postgresql+asyncpg://" in done.stderr
    assert "no prepared statements are kept" in done.stderr
    assert "nothing changed" in elsewhere.invoke("prefect.setup").stderr
    assert elsewhere.invoke("prefect.status").returncode == 0

    token = elsewhere.invoke("gateway.create-token", "--project", "tests", "--service", "runs").stdout.strip()
    headers, api = {"Authorization": f"Bearer {token}"}, f"{elsewhere.url}/prefect/api"
    with httpx.Client(headers=headers, timeout=60) as client:
        flow = client.post(f"{api}/flows/", json={"name": "pooled"}).json()["id"]

        def run(number: int) -> int:
            return client.post(
                f"{api}/flow_runs/", json={"flow_id": flow, "name": f"run {number}"}
            ).status_code

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(run, range(200))) == {201}
        counted = client.post(f"{api}/flow_runs/count", json={"flows": {"id": {"any_": [flow]}}})
        assert counted.json() == 200
    log = (elsewhere.clone.root / ".state" / "pooled" / "logs" / "prefect-server.log").read_text()
    assert "prepared statement" not in log
    assert PASSWORD not in log
    assert "prepared statement" not in (pooler / "log").read_text()


def test_the_password_is_with_the_secrets_only(elsewhere: Elsewhere) -> None:
    state = elsewhere.clone.root / ".state" / "pooled"
    holding = {
        str(path.relative_to(state))
        for path in state.rglob("*")
        if path.is_file() and PASSWORD[:8].encode() in path.read_bytes()
    }
    assert holding == {"secrets/prefect.json", "secrets/prefect.env"}


def test_a_schema_that_is_not_ours_is_refused(elsewhere: Elsewhere, cluster: Cluster) -> None:
    revision = cluster.sql("postgres", "SELECT version_num FROM alembic_version")[0][0]
    assert re.fullmatch(r"[0-9a-f]+", revision)
    elsewhere.invoke("prefect.stop")
    cluster.sql("postgres", "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    try:
        failed = elsewhere.invoke("prefect.setup", code=5)
        assert "schema revision ffffffffffff is unknown to Prefect" in failed.stdout + failed.stderr
    finally:
        cluster.sql("postgres", f"UPDATE alembic_version SET version_num = '{revision}'")
    end = time.monotonic() + 60
    while elsewhere.invoke("prefect.setup", code=None).returncode and time.monotonic() < end:
        pass
    assert elsewhere.invoke("prefect.status").returncode == 0
