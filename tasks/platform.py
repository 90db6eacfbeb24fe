"""All stacks of an environment together."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from ._stack import platform as open_platform
from ._stack import say, set_up


@task(
    help={"env": "environment of invoke.yaml (default: local)", "wait": "seconds to wait for another setup"}
)
def setup(c: Context, env: str = "local", wait: int = 600) -> None:
    """Bring up every stack in order of need, ending with prefect. Example: ./invoke platform.setup --env production"""
    from prefect_platform import deploy

    p = open_platform(c, env)
    for name in deploy.order(p, "prefect"):
        say(f"== {name}")
        set_up(p, name, False, wait, False)
