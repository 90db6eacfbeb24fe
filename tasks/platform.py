"""All stacks of an environment together."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from . import _output
from ._context import platform as open_platform
from ._context import say, show
from ._stack import remove_stack, set_up


@task(
    help={"env": "environment of invoke.yaml (default: local)", "wait": "seconds to wait for another setup"}
)
def setup(c: Context, env: str = "local", wait: int = 600) -> None:
    """Bring up every stack in order of need, ending with prefect. Example: ./invoke platform.setup --env production"""

    from prefect_platform.operations import preconditions, stack_order

    p = open_platform(c, env)
    names = stack_order.order(p, p.main)
    if len(names) > 1:
        preconditions.require_all(p, names)
    for name in names:
        say(f"== {name}")
        set_up(p, name, False, wait, False)


@task(help={"env": "environment of invoke.yaml (default: local)", "json": "machine-readable"})
def plan(c: Context, env: str = "local", json: bool = False) -> None:
    """Show everything that platform.setup would do, stack by stack. Touches nothing. Example: ./invoke platform.plan --env production"""
    _output.plan_environment(open_platform(c, env), json)


@task
def stop(c: Context, env: str = "local") -> None:
    """Stop everything of an environment; workers finish their runs first. What a host shares goes on. Example: ./invoke platform.stop"""
    p = open_platform(c, env)
    with p.target.lock("platform.stop", 600):
        p.target.stop(())


@task(help={"yes": "do it", "data": "delete databases, volumes and releases as well"})
def remove(c: Context, env: str = "local", yes: bool = False, data: bool = False) -> None:
    """Stop and delete an environment; what a host shares stays. Example: ./invoke platform.remove --env staging --data --yes"""
    remove_stack(open_platform(c, env), "", yes, data)


@task(
    help={"env": "environment of invoke.yaml", "lines": "how many of the newest", "json": "machine-readable"}
)
def history(c: Context, env: str, lines: int = 30, json: bool = False) -> None:
    """Who did what on the host, and how it ended. Example: ./invoke platform.history --env production"""
    from prefect_platform.targets.protocol import Releases, require

    found = require(open_platform(c, env).target, Releases).history()[-lines:]
    if json:
        return show([vars(line) for line in found])
    for line in found:
        print(f"{line.time}  {line.result:7} {line.what:18} {line.release}  {line.who}  {line.detail}")
    return None


@task(help={"env": "environment of invoke.yaml", "json": "machine-readable"})
def pin_images(c: Context, env: str, json: bool = False) -> None:
    """Record the digests of all images in images.lock; setup then runs exactly those. Example: ./invoke platform.pin-images --env production"""

    from prefect_platform.operations import pin_images as operation

    digests = operation.pin_images(open_platform(c, env))
    if json:
        return show(digests)
    for image, digest in sorted(digests.items()):
        print(f"{image:45} {digest}")
    say(f"images.lock: {len(digests)} images; commit it. next: ./invoke prefect.plan --env {env}")
    return None
