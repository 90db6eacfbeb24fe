"""What must hold of every platform on a VPS, whatever stacks it has."""

from __future__ import annotations

import json
from collections.abc import Callable

from .conftest import Docker
from .vps import Vps, containers, secrets


def locked_down(docker: Docker) -> None:
    for name, each in containers(docker).items():
        host, config = each["HostConfig"], each["Config"]
        assert config["User"].split(":")[0] not in ("", "0", "root"), name
        assert host["CapDrop"] == ["ALL"], name
        assert not host["CapAdd"], name
        assert host["ReadonlyRootfs"], name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        size = "25m" if name == "platform-traefik" else "10m"  # its request log is to last
        assert host["LogConfig"]["Config"]["max-size"] == size, name
        assert host["Memory"] > 0, name
        assert host["PidsLimit"] > 0, name
        assert not [mount for mount in each["Mounts"] if "docker.sock" in mount["Source"]], name
        assert bool(host["PortBindings"]) == (name == "platform-traefik"), name


def secrets_show_nowhere(vps: Vps, docker: Docker, ssh: Callable[..., str]) -> None:
    values = secrets(vps, docker)
    assert len(values) >= 7
    seen = {
        "docker inspect": json.dumps(containers(docker)),
        "processes": ssh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '"),
        "history": ssh("cat /opt/platform/*/history.jsonl"),
        "releases": ssh("cat $(find /opt/platform -type f -path '*releases*')"),
        "plan": vps.invoke("prefect.plan").stdout,
        "logs": "".join(docker("logs", name) for name in containers(docker)),
    }
    for place, text in seen.items():
        assert not [value for value in values if value in text], f"a secret stands in {place}"
    assert ssh("stat -c %a /opt/platform/lab/prefect/approle/secret-id").strip() == "600"
