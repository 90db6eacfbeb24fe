"""Prepare a bare host."""

from __future__ import annotations

from invoke.context import Context

from ._context import platform
from ._task import task


@task()
def prepare(c: Context, env: str) -> None:
    """Install Docker and Compose on a host over SSH.

    Example: ./invoke host.prepare --env production

    For a bare Debian or Ubuntu host.
    """
    from prefect_platform.targets.protocol import Prepares, require

    print(require(platform(c, env).target, Prepares).prepare(), end="")
