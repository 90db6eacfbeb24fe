"""Fly.io: the monthly cost, a local preview."""

from __future__ import annotations

from invoke.context import Context

from ._context import platform, say, show
from ._task import task


@task(
    help={
        "hours": "hours a day that the machine is awake",
    }
)
def cost(c: Context, env: str = "fly", hours: float = 24.0, json: bool = False) -> None:
    """Estimate the monthly cost from the settings.

    Example: ./invoke fly.cost --env fly --hours 8
    """
    from prefect_platform.errors import ConfigError
    from prefect_platform.targets.protocol import Costs, require

    target = require(platform(c, env).target, Costs)
    if not 0 <= float(hours) <= 24:
        raise ConfigError(f"--hours {hours}: between 0 and 24")
    found = target.estimate(float(hours))
    if json:
        return show(
            {
                "as_of": found.as_of,
                "source": found.source,
                "items": [vars(each) for each in found.items],
                "total": found.total,
            }
        )
    for each in found.items:
        print(f"{each.what:32} {each.amount:36} {each.usd:6.2f}")
    print(f"{'a month, USD':69} {found.total:6.2f}")
    return say(f"{found.source}; plus {found.more}")


@task(
    help={
        "port": "where it listens on 127.0.0.1",
        "stop": "end it, with its volume, its image and its keys",
    }
)
def preview(c: Context, env: str = "fly", port: int = 8480, stop: bool = False, json: bool = False) -> None:
    """Run the Fly machine in a local Docker engine.

    Example: ./invoke fly.preview --env fly
    """
    from prefect_platform.environment.access import gateway
    from prefect_platform.errors import CheckFailed
    from prefect_platform.operations import deploy
    from prefect_platform.operations import preview as previews

    from ._output import checks

    p, machine = previews.here(platform(c, env), port, lambda instead: platform(c, env, instead))
    if stop:
        machine.end()
        return say("removed the preview with its volume, image and keys")
    for note in machine.differences():
        say(f"note: {note}")
    report = deploy.setup(p, p.main, 600)
    used, limit = machine.memory_use()
    checks(report.checks, json, {"url": p.url, "memory": used, "limit": limit})
    if not report.healthy:
        raise CheckFailed("the preview is not healthy", f"./invoke fly.preview --env {env} --stop ends it")
    shown = f"{used >> 20} of {limit >> 20} MB in use" if used else f"limit {limit >> 20} MB"
    say(f"{shown}; open in a browser: {gateway(p, ['login-url']).strip()}")
    return say(f"next: ./invoke fly.preview --env {env} --stop")
