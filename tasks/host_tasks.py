"""Prepare a host for the compose target."""

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
    from prefect_platform.targets.compose import target

    print(target.prepare(platform(c, env).settings), end="")
