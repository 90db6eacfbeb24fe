"""The host of the compose target itself."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from ._context import platform


@task(help={"env": "environment of invoke.yaml"})
def prepare(c: Context, env: str) -> None:
    """Install Docker and Compose on a bare Debian or Ubuntu host, over SSH. Example: ./invoke host.prepare --env production"""
    from prefect_platform.targets.compose import target

    print(target.prepare(platform(c, env).settings), end="")
