"""What the stacks count on in an image, whether it is the official one or our stand-in: user, entrypoint, tools, and that it runs locked down."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from prefect_platform import lab
from prefect_platform.lab import LabHost
from prefect_platform.lab.images import LABEL, STANDINS

from .conftest import Docker

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

PREFECT, POSTGRES, REDIS = "prefecthq/prefect:3.8.8-python3.12", "postgres:17.11", "redis:8.10.2"
TRAEFIK, OPENBAO = "traefik:v3.7.13", "openbao/openbao:2.6.2"
LOCKED = ("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only")
"""How the stacks run every container."""

CONFIG: dict[str, dict[str, Any]] = {
    PREFECT: {
        "User": "",
        "WorkingDir": "/opt/prefect",
        "Entrypoint": ["/usr/bin/tini", "-g", "--", "/opt/prefect/entrypoint.sh"],
        "Cmd": None,
        "Volumes": None,
        "ExposedPorts": None,
        "StopSignal": None,
    },
    POSTGRES: {
        "User": "",
        "WorkingDir": "/",
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["postgres"],
        "Volumes": {"/var/lib/postgresql/data": {}},
        "ExposedPorts": {"5432/tcp": {}},
        "StopSignal": "SIGINT",
    },
    REDIS: {
        "User": "",
        "WorkingDir": "/data",
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["redis-server"],
        "Volumes": None,
        "ExposedPorts": {"6379/tcp": {}},
        "StopSignal": None,
    },
    TRAEFIK: {
        "User": "",
        "WorkingDir": "/",
        "Entrypoint": ["/entrypoint.sh"],
        "Cmd": ["traefik"],
        "Volumes": None,
        "ExposedPorts": {"80/tcp": {}},
        "StopSignal": None,
    },
    OPENBAO: {
        "User": "openbao",
        "WorkingDir": "/",
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["server", "-dev", "-dev-no-store-token"],
        "Volumes": {"/openbao/file": {}, "/openbao/logs": {}},
        "ExposedPorts": {"8200/tcp": {}},
        "StopSignal": None,
    },
}
TOOLS: dict[str, tuple[str, str]] = {
    PREFECT: ("sh bash python pip uv git tini prefect", "curl wget ps"),
    POSTGRES: ("sh bash psql pg_isready pg_dump pg_restore gosu xz zstd perl", "curl wget python python3"),
    REDIS: ("sh bash redis-cli setpriv", "curl wget python python3"),
    TRAEFIK: ("sh wget traefik", "bash curl python python3"),
    OPENBAO: ("sh wget bao vault dumb-init su-exec", "bash curl python python3"),
}


def until_answers(docker: Docker, container: str, *words: str, wants: str) -> None:
    """Ask inside the container until the answer holds `wants`. A container that ended fails with its log."""
    until = time.monotonic() + 60
    while wants not in (said := docker("exec", container, *words, code=None)):
        running = docker("inspect", "--format", "{{.State.Running}}", container).strip() == "true"
        assert running, docker("logs", container)
        assert time.monotonic() < until, said + docker("logs", container)
        time.sleep(0.2)


def inside(docker: Docker, image: str, script: str, options: Sequence[str] = (), code: int = 0) -> str:
    return docker("run", "--rm", *options, "--entrypoint", "/bin/sh", image, "-c", script, code=code)


@pytest.mark.parametrize("image", CONFIG)
def test_the_interface_is_the_official_one(docker: Docker, image: str) -> None:
    config = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", image))
    found = {key: config.get(key) or None for key in CONFIG[image]}
    assert {**found, "User": config.get("User", ""), "WorkingDir": config.get("WorkingDir") or "/"} == CONFIG[
        image
    ]
    assert config.get("Healthcheck") is None


@pytest.mark.parametrize("image", TOOLS)
def test_the_tools_that_may_be_counted_on_and_no_others(docker: Docker, image: str) -> None:
    there, absent = TOOLS[image]
    script = f"for each in {there} {absent}; do command -v $each >/dev/null && echo $each; done; true"
    assert inside(docker, image, script).split() == there.split()


def test_stand_ins_can_be_told_from_official_images(host: LabHost, docker: Docker) -> None:
    kinds = {each["name"]: each["kind"] for each in lab.status(host.data.parents[1])["images"]}
    assert set(kinds) == {image.name for image in STANDINS} == set(CONFIG)
    labelled = docker(
        "images", "--filter", f"label={LABEL}=standin", "--format", "{{.Repository}}:{{.Tag}}"
    ).split()
    assert sorted(labelled) == sorted(name for name, kind in kinds.items() if kind == "stand-in")


@pytest.mark.parametrize(
    ("image", "path", "owner"),
    [
        (POSTGRES, "/var/lib/postgresql/data", "999:999 1777"),
        (POSTGRES, "/var/run/postgresql", "999:999 3775"),
        (REDIS, "/data", "999:999 755"),
        (OPENBAO, "/openbao/file", "100:1000 755"),
        (OPENBAO, "/openbao/logs", "100:1000 755"),
        (OPENBAO, "/openbao/config", "100:1000 755"),
    ],
)
def test_folders_belong_to_the_service(docker: Docker, image: str, path: str, owner: str) -> None:
    assert inside(docker, image, f"stat -c '%u:%g %a' {path}", ["--user", "0"]).strip() == owner


# --- Postgres


def _postgres(docker: Docker, name: str, *more: str) -> None:
    options = [
        "--user",
        "999:999",
        "--tmpfs",
        "/var/run/postgresql:uid=999,gid=999,mode=0775",
        "-e",
        "POSTGRES_PASSWORD_FILE=/secrets/password",
    ]
    docker(
        "run",
        "-d",
        "--name",
        name,
        *LOCKED,
        *options,
        "-v",
        f"{name}:/var/lib/postgresql/data",
        *more,
        POSTGRES,
    )


@pytest.fixture
def secrets(docker: Docker, name: str) -> str:
    """A volume that holds /secrets/password, for the service's uid alone, and one first-start script."""
    volume = f"{name}-secrets"
    script = "echo it\\'s >/s/password; chown 999:999 /s/password; chmod 400 /s/password; echo 'create table made(x int)' >/s/1.sql"
    inside(docker, REDIS, script, ["-v", f"{volume}:/s"])
    return volume


def test_postgres_runs_locked_down_and_keeps_its_data(docker: Docker, name: str, secrets: str) -> None:
    _postgres(
        docker,
        name,
        "-v",
        f"{secrets}:/secrets:ro",
        "-v",
        f"{secrets}:/docker-entrypoint-initdb.d:ro",
        "-e",
        "POSTGRES_DB=app",
    )
    ready = ("pg_isready", "-h", "127.0.0.1", "-U", "postgres", "-d", "app")
    until_answers(docker, name, *ready, wants="accepting")
    ask = (
        "exec",
        "-e",
        "PGPASSWORD=it's",
        name,
        "psql",
        "-h",
        "127.0.0.1",
        "-U",
        "postgres",
        "-d",
        "app",
        "-Atc",
    )
    assert (
        docker(*ask, "insert into made values (7); select x from made; show server_version_num").split()[2][
            :2
        ]
        == "17"
    )
    docker("restart", name)
    until_answers(docker, name, *ready, wants="accepting")
    assert docker(*ask, "select x from made").strip() == "7"
    address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", name).strip()
    wrong = docker(
        "exec", "-e", "PGPASSWORD=no", name, "psql", "-h", address, "-U", "postgres", "-c", "select 1", code=2
    )
    assert "password authentication failed" in wrong
    docker("volume", "rm", "--force", secrets, code=None)


def test_postgres_as_root_hands_over(docker: Docker, name: str) -> None:
    docker("run", "-d", "--name", name, "-e", "POSTGRES_PASSWORD=x", POSTGRES)
    until_answers(docker, name, "pg_isready", "-h", "127.0.0.1", wants="accepting")
    assert inside_status(docker, name)["Uid"][0] == "999"
    docker("stop", name)
    assert "received fast shutdown request" in docker("logs", name)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", name).strip() == "0"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "superuser password is not specified"),
        (["-e", "POSTGRES_PASSWORD=x", "-e", "POSTGRES_PASSWORD_FILE=/etc/hostname"], "exclusive"),
        (
            [
                "-e",
                "POSTGRES_PASSWORD_FILE=/proc/1/mem",
                "--user",
                "999:999",
                "--tmpfs",
                "/var/lib/postgresql/data:mode=0700",
            ],
            "ermission",
        ),
    ],
)
def test_postgres_refuses_what_the_official_one_refuses(
    docker: Docker, name: str, options: list[str], says: str
) -> None:
    assert says in docker("run", "--name", name, *options, POSTGRES, code=1)


# --- Redis


def inside_status(docker: Docker, container: str) -> dict[str, list[str]]:
    """/proc/1/status of a container."""
    lines = docker("exec", "--user", "0", container, "cat", "/proc/1/status").splitlines()
    return {key: value.split() for key, _, value in (line.partition(":") for line in lines)}


def test_redis_runs_locked_down_and_keeps_its_data(docker: Docker, name: str) -> None:
    docker(
        "run",
        "-d",
        "--name",
        name,
        *LOCKED,
        "--user",
        "999:999",
        "-v",
        f"{name}:/data",
        REDIS,
        "--appendonly",
        "yes",
        "--requirepass",
        "s",
    )
    ask = ("exec", "-e", "REDISCLI_AUTH=s", name, "redis-cli")
    until_answers(docker, name, "env", "REDISCLI_AUTH=s", "redis-cli", "ping", wants="PONG")
    assert docker(*ask, "set", "key", "7").strip() == "OK"
    docker("restart", name)
    until_answers(docker, name, "env", "REDISCLI_AUTH=s", "redis-cli", "ping", wants="PONG")
    assert docker(*ask, "get", "key").strip() == "7"
    assert "NOAUTH" in docker("exec", name, "redis-cli", "get", "key")
    assert inside_status(docker, name)["CapEff"] == ["0000000000000000"]


def test_redis_as_root_hands_over_and_is_open_to_others(docker: Docker, name: str) -> None:
    docker("run", "-d", "--name", name, REDIS)
    until_answers(docker, name, "redis-cli", "ping", wants="PONG")
    status = inside_status(docker, name)
    assert [status["Uid"][0], status["CapEff"], status["NoNewPrivs"]] == ["999", ["0000000000000000"], ["1"]]
    assert status["Umask"] == ["0077"]
    address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", name).strip()
    assert docker("run", "--rm", REDIS, "redis-cli", "-h", address, "ping").strip() == "PONG"


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
