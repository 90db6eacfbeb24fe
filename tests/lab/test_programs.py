"""Traefik, OpenBao and Prefect run as the stacks run them: no root, no capability, nothing writable but what is listed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from .conftest import Docker
from .standins import LOCKED, OPENBAO, PREFECT, TRAEFIK, until_answers

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]


# --- Traefik and OpenBao


def test_traefik_runs_locked_down(docker: Docker, name: str) -> None:
    docker(
        "run",
        "-d",
        "--name",
        name,
        *LOCKED,
        "--user",
        "65532:65532",
        TRAEFIK,
        "--ping=true",
        "--entrypoints.web.address=:80",
    )
    until_answers(docker, name, "wget", "-q", "-O", "-", "http://127.0.0.1:8080/ping", wants="OK")
    assert docker("exec", name, "traefik", "healthcheck", "--ping").startswith("OK")
    assert docker("run", "--rm", TRAEFIK, "version").startswith("Version:")
    assert "assuming shell" in docker("run", "--rm", TRAEFIK, "sh", "-c", "true")


def test_openbao_runs_locked_down(docker: Docker, name: str) -> None:
    options = [
        "--user",
        "100:1000",
        "-e",
        "BAO_DEV_ROOT_TOKEN_ID=t",
        "--memory",
        "256m",
        "--memory-swap",
        "256m",
    ]
    docker("run", "-d", "--name", name, *LOCKED, *options, OPENBAO)
    address = ("env", "BAO_ADDR=http://127.0.0.1:8200", "BAO_TOKEN=t")
    until_answers(docker, name, *address, "bao", "status", wants="Sealed")
    docker("exec", name, *address, "bao", "kv", "put", "secret/x", "key=7")
    assert docker("exec", name, *address, "vault", "kv", "get", "-field=key", "secret/x").strip() == "7"
    assert docker("exec", name, "readlink", "/proc/1/exe").strip() == "/usr/bin/dumb-init"


def test_openbao_wants_its_folders_or_skip_chown(docker: Docker, name: str) -> None:
    foreign = ["--name", name, *LOCKED, "--user", "100:1000", "--tmpfs", "/openbao/logs:uid=0"]
    docker("run", *foreign, OPENBAO, "version", code=1)
    docker("rm", name)
    assert "OpenBao v" in docker("run", *foreign, "-e", "SKIP_CHOWN=1", OPENBAO, "version")


# --- Prefect


def _prefect(docker: Docker, name: str, *words: str, options: Sequence[str] = ()) -> None:
    home = ["--user", "1001:1001", "-e", "HOME=/home/prefect", "-e", "PREFECT_HOME=/home/prefect/.prefect"]
    home += ["--tmpfs", "/home/prefect:uid=1001,gid=1001", "--tmpfs", "/tmp"]
    docker("run", "-d", "--name", name, *LOCKED, *home, *options, PREFECT, *words)


def test_prefect_server_and_worker_run_locked_down(docker: Docker, name: str) -> None:
    docker("network", "create", name)
    serve = [
        "--network",
        name,
        "-e",
        "PREFECT_SERVER_API_HOST=0.0.0.0",
        "-e",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY=/tmp/ui",
    ]
    _prefect(docker, name, "prefect", "server", "start", options=serve)
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:4200/api/ready').read().decode())"
    until_answers(docker, name, "python", "-c", ask, wants="OK")
    assert docker("exec", name, "cat", "/proc/1/comm").strip() == "tini"
    client = ["--network", name, "-e", f"PREFECT_API_URL=http://{name}:4200/api"]
    _prefect(
        docker,
        f"{name}-worker",
        "prefect",
        "worker",
        "start",
        "--pool",
        "p",
        "--type",
        "process",
        "--with-healthcheck",
        options=client,
    )
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/health').read().decode())"
    until_answers(docker, f"{name}-worker", "python", "-c", ask, wants="OK")


def test_prefect_has_what_the_split_topology_needs(docker: Docker) -> None:
    modules = (
        "prefect_redis.messaging, prefect_redis.ordering, prefect_redis.lease_storage, asyncpg, uvicorn, jwt"
    )
    docker(
        "run",
        "--rm",
        "--network",
        "none",
        *LOCKED,
        "--tmpfs",
        "/tmp",
        "--user",
        "1001:1001",
        "-e",
        "HOME=/tmp",
        PREFECT,
        "python",
        "-c",
        f"import {modules}",
    )


def test_prefect_is_byte_compiled(docker: Docker) -> None:
    ask = "import prefect, importlib.util as u, os; print(os.path.exists(u.cache_from_source(prefect.__file__)))"
    assert docker("run", "--rm", PREFECT, "python", "-c", ask).strip().endswith("True")


def test_prefect_entrypoint_installs_extra_packages_or_stops(docker: Docker) -> None:
    out = docker(
        "run",
        "--rm",
        "--network",
        "none",
        "-e",
        "EXTRA_PIP_PACKAGES=no-such-package-here",
        PREFECT,
        "echo",
        "started",
        code=None,
    )
    assert "no-such-package-here" in out
    assert "started" not in out
