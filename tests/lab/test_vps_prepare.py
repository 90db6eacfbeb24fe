"""host.prepare on a host that has Docker: what is missing is added once, what somebody has set stays."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from .vps import Vps

pytestmark = pytest.mark.timeout(120)
FILE = "/etc/docker/daemon.json"


def test_a_host_is_prepared_once(vps: Vps, ssh: Callable[..., str]) -> None:
    ssh(f"rm -f {FILE}")
    first = vps.invoke("host.prepare").stdout
    assert "docker: there, Docker version" in first
    assert "log rotation and live-restore set" in first
    made = ssh(f"cat {FILE}")
    assert json.loads(made)["log-opts"] == {"max-size": "10m", "max-file": "3"}
    ssh(f"echo '{{}}' >{FILE}")
    assert "stays as it is" in vps.invoke("host.prepare").stdout
    assert ssh(f"cat {FILE}") == "{}\n"


def test_it_takes_root(vps: Vps) -> None:
    host = vps.settings["host"]
    vps.settings["host"] = "platform-lab-deployer"
    vps.write()
    refused = vps.invoke("host.prepare", code=3)
    vps.settings["host"] = host
    vps.write()
    assert "needs root" in refused.stderr
    assert "root@" in refused.stderr
