"""What the stacks count on in an image, whether it is the official one or our stand-in: user, entrypoint, tools, and that it runs locked down."""

from __future__ import annotations

import json
from typing import Any

import pytest

import prefect_platform_lab
from prefect_platform_lab import LabHost
from prefect_platform_lab.images import LABEL, STANDINS

from .conftest import Docker
from .standins import AUTHENTIK, LITESTREAM, OPENBAO, POSTGRES, PREFECT, REDIS, TRAEFIK, inside

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

CONFIG: dict[str, dict[str, Any]] = {
    AUTHENTIK: {
        "User": "1000",
        "WorkingDir": "/",
        "Entrypoint": ["dumb-init", "--", "ak"],
        "Cmd": None,
        "Volumes": None,
        "ExposedPorts": None,
        "StopSignal": None,
    },
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
    LITESTREAM: {
        "User": "",
        "WorkingDir": "/",
        "Entrypoint": ["/usr/local/bin/litestream"],
        "Cmd": None,
        "Volumes": None,
        "ExposedPorts": None,
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


@pytest.mark.parametrize("image", CONFIG)
def test_the_interface_is_the_official_one(docker: Docker, image: str) -> None:
    config = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", image))
    found = {key: config.get(key) or None for key in CONFIG[image]}
    assert {**found, "User": config.get("User", ""), "WorkingDir": config.get("WorkingDir") or "/"} == CONFIG[
        image
    ]
    assert (config.get("Healthcheck") is not None) == (image == AUTHENTIK)


@pytest.mark.parametrize("image", TOOLS)
def test_the_tools_that_may_be_counted_on_and_no_others(docker: Docker, image: str) -> None:
    there, absent = TOOLS[image]
    script = f"for each in {there} {absent}; do command -v $each >/dev/null && echo $each; done; true"
    assert inside(docker, image, script).split() == there.split()


def test_stand_ins_can_be_told_from_official_images(host: LabHost, docker: Docker) -> None:
    kinds = {
        each["name"]: each["kind"] for each in prefect_platform_lab.status(host.data.parents[1])["images"]
    }
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
