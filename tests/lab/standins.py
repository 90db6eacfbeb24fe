"""Names of the images, how the stacks run them, and two ways to ask inside."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .conftest import Docker

PREFECT, POSTGRES, REDIS = "prefecthq/prefect:3.8.8-python3.12", "postgres:17.11", "redis:8.10.2"
TRAEFIK, OPENBAO = "traefik:v3.7.13", "openbao/openbao:2.6.2"
LITESTREAM = "litestream/litestream:0.5.17"
AUTHENTIK = "ghcr.io/goauthentik/server:2026.8.5"
LOCKED = ("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only")
"""How the stacks run every container."""


def until_answers(docker: Docker, container: str, *words: str, wants: str) -> None:
    """Ask inside the container until the answer holds `wants`. A container that ended fails with its log."""
    until = time.monotonic() + 60
    while wants not in (said := docker("exec", container, *words, code=None)):
        running = docker("inspect", "--format", "{{.State.Running}}", container).strip() == "true"
        assert running, docker("logs", container)
        assert time.monotonic() < until, said + docker("logs", container)
        time.sleep(0.5)


def inside(docker: Docker, image: str, script: str, options: Sequence[str] = (), code: int = 0) -> str:
    return docker("run", "--rm", *options, "--entrypoint", "/bin/sh", image, "-c", script, code=code)
