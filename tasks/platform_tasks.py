"""All stacks of an environment together."""

from __future__ import annotations

from invoke.context import Context

from . import _output
from ._context import platform as open_platform
from ._context import say, show
from ._stack import remove_stack, set_up
from ._task import task


@task(help={"dry-run": "show the plan and touch nothing"})
def setup(c: Context, env: str = "local", dry_run: bool = False, wait: int = 600) -> None:
    """Set up every stack of an environment.

    Example: ./invoke platform.setup --env production
    """
    from prefect_platform.operations import preconditions, stack_order

    p = open_platform(c, env)
    if dry_run:
        return _output.plan_environment(p, False)
    names = stack_order.order(p, p.main)
    if len(names) > 1:
        preconditions.require_all(p, names)
    for name in names:
        say(f"== {name}")
        set_up(p, name, False, wait, False)
    return None


@task()
def plan(c: Context, env: str = "local", json: bool = False) -> None:
    """Show what setup would change, stack by stack.

    Example: ./invoke platform.plan --env production

    Touches nothing.
    """
    _output.plan_environment(open_platform(c, env), json)


@task()
def status(c: Context, env: str = "local", json: bool = False) -> None:
    """Check all stacks; exit 0 only if healthy.

    Example: ./invoke platform.status --env production
    """
    _output.status(open_platform(c, env), "", json)


@task(
    help={
        "service": "one service (default all)",
        "lines": "number of lines",
        "follow": "keep printing until Ctrl-C",
    }
)
def logs(c: Context, env: str = "local", service: str = "", lines: int = 50, follow: bool = False) -> None:
    """Show the last log lines of all services.

    Example: ./invoke platform.logs --env production --lines 20
    """
    _output.logs(open_platform(c, env), "", service, lines, follow)


@task()
def stop(c: Context, env: str = "local") -> None:
    """Stop an environment; workers finish their runs.

    Example: ./invoke platform.stop

    What a host shares keeps running.
    """
    _output.stop(open_platform(c, env), "")


@task(help={"data": "delete databases, volumes and releases as well"})
def remove(c: Context, env: str = "local", yes: bool = False, data: bool = False) -> None:
    """Delete an environment; data only with --data.

    Example: ./invoke platform.remove --env staging --data --yes

    What a host shares stays.
    """
    remove_stack(open_platform(c, env), "", yes, data)


@task(
    help={
        "lines": "number of lines",
    }
)
def history(c: Context, env: str, lines: int = 30, json: bool = False) -> None:
    """Show who did what on the host, and the outcome.

    Example: ./invoke platform.history --env production
    """
    from prefect_platform.targets.protocol import Releases, require

    found = require(open_platform(c, env).target, Releases).history()[-lines:]
    if json:
        return show([vars(line) for line in found])
    for line in found:
        print(f"{line.time}  {line.result:7} {line.what:18} {line.release}  {line.who}  {line.detail}")
    return None


@task()
def pin_images(c: Context, env: str, json: bool = False) -> None:
    """Record all image digests in images.lock.

    Example: ./invoke platform.pin-images --env production

    setup then runs exactly those.
    """

    from prefect_platform.operations import pin_images as operation

    digests = operation.pin_images(open_platform(c, env))
    if json:
        return show(digests)
    for image, digest in sorted(digests.items()):
        print(f"{image:45} {digest}")
    say(f"images.lock: {len(digests)} images; commit it. next: ./invoke prefect.plan --env {env}")
    return None
