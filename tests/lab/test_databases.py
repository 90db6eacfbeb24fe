"""Postgres and Redis run as the stacks run them: no root, no capability, nothing writable but what is listed."""

from __future__ import annotations

import pytest

from .conftest import Docker
from .standins import LOCKED, POSTGRES, REDIS, inside, until_answers

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]


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
    said = docker(*ask, "insert into made values (7); select x from made; show server_version_num").split()
    assert said[-2] == "7"
    assert said[-1].startswith("17")
    docker("restart", name)
    until_answers(docker, name, *ready, wants="accepting")
    assert docker(*ask, "select x from made").strip() == "7"
    address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", name).strip()
    wrong = docker(
        "exec", "-e", "PGPASSWORD=no", name, "psql", "-h", address, "-U", "postgres", "-c", "select 1", code=2
    )
    assert "password authentication failed" in wrong


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
