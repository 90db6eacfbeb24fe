"""The tasks that every stack has. A stack needs no module of its own: its folder is enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from . import _output
from ._context import platform, say

if TYPE_CHECKING:  # imported when a task runs: `--list` must stay fast
    from prefect_platform.environment.opened import Platform


def set_up(p: Platform, name: str, dry_run: bool, wait: int, json: bool) -> None:
    """The whole way for one stack, and what there is to say about it."""
    _output.setup(p, name, dry_run, wait, json)


def set_up_needs(p: Platform, name: str, dry_run: bool, wait: int) -> None:
    """What the stack needs and is not there, in order."""

    from prefect_platform.operations import stack_order

    missing = stack_order.missing_needs(p, name)
    if dry_run and missing:
        say(f"these would be set up first, and only then could the plan be made: {', '.join(missing)}")
        raise SystemExit(0)
    for need in missing:
        say(f"== {need}")
        set_up(p, need, False, wait, False)
    if missing:
        say(f"== {name}")


def open_stack(c: Context, env: str, name: str) -> Platform:
    """The environment of a stack's task. Raises ConfigError where the environment's target does not have the stack."""
    from prefect_platform.operations.stack_order import require_stack

    p = platform(c, env)
    require_stack(p, name)
    return p


def remove_stack(p: Platform, name: str, yes: bool, data: bool) -> None:
    """A stack, or with "" the whole environment."""
    from prefect_platform.errors import ConfigError

    if name and p.target.traits.combined and name != p.main:
        raise ConfigError(
            f"target {p.target.traits.name} runs all stacks as one: {name} cannot be removed by itself",
            f"the whole environment: ./invoke platform.remove --env {p.settings.env}",
        )
    what = p.target.removal(name, data)
    if not yes:
        raise ConfigError(f"this would remove {what}", "add --yes to do it")
    with p.target.lock(f"{name or 'platform'}.remove", 600):
        p.target.remove(p.stacks, name, data)
    say(f"removed {what}")


def namespace(name: str) -> Collection:
    """setup, plan, status, logs, restart, stop, remove for one stack."""

    @task(
        help={
            "env": "environment of invoke.yaml (default: local)",
            "dry-run": "show the plan, touch nothing",
            "wait": "seconds to wait for another setup",
            "with-needs": "first the stacks that it needs and that are not there",
            "json": "machine-readable",
        }
    )
    def setup(
        c: Context,
        env: str = "local",
        dry_run: bool = False,
        wait: int = 600,
        with_needs: bool = False,
        json: bool = False,
    ) -> None:
        """Bring it up as declared, and prove that it works. Example: ./invoke prefect.setup --env local"""
        p = open_stack(c, env, name)
        if with_needs:
            set_up_needs(p, name, dry_run, wait)
        set_up(p, name, dry_run, wait, json)

    @task(help={"env": "environment of invoke.yaml (default: local)", "json": "machine-readable"})
    def plan(c: Context, env: str = "local", json: bool = False) -> None:
        """Show what setup would change, with causes. Touches nothing. Example: ./invoke prefect.plan"""
        _output.plan(open_stack(c, env, name), name, json)

    @task(help={"env": "environment of invoke.yaml (default: local)", "json": "machine-readable"})
    def status(c: Context, env: str = "local", json: bool = False) -> None:
        """Check everything now; exit 0 only if it is healthy. Example: ./invoke prefect.status --json"""
        _output.status(open_stack(c, env, name), json)

    @task(help={"service": "one service, e.g. server", "lines": "how many", "follow": "go on until Ctrl-C"})
    def logs(
        c: Context, env: str = "local", service: str = "", lines: int = 50, follow: bool = False
    ) -> None:
        """Show the last log lines. Example: ./invoke prefect.logs --service server --follow"""
        _output.logs(open_stack(c, env, name), name, service, lines, follow)

    @task(help={"service": "one service; all of the stack without it"})
    def restart(c: Context, env: str = "local", service: str = "") -> None:
        """Restart services (workers finish their runs first). Example: ./invoke prefect.restart --service server"""
        _output.restart(open_stack(c, env, name), name, service)

    @task
    def stop(c: Context, env: str = "local") -> None:
        """Stop it (on one machine: everything); workers finish their runs first. Data stays. Example: ./invoke prefect.stop"""
        _output.stop(open_stack(c, env, name), name)

    @task(help={"yes": "do it", "data": "delete databases, logs and secrets as well"})
    def remove(c: Context, env: str = "local", yes: bool = False, data: bool = False) -> None:
        """Stop and delete what setup made (on one machine: all stacks); data only with --data. Example: ./invoke prefect.remove --yes"""
        remove_stack(open_stack(c, env, name), name, yes, data)

    @task(help={"json": "machine-readable"})
    def releases(c: Context, env: str = "local", json: bool = False) -> None:
        """The releases on the host, newest first: who, when, how it ended. Example: ./invoke prefect.releases --env production"""
        _output.releases(open_stack(c, env, name), name, json)

    @task(
        help={
            "to": "a release of prefect.releases; without it the last good one before the current",
            "restore": "across a change of the schema: with the databases as they were just before it",
        }
    )
    def rollback(c: Context, env: str = "local", to: str = "", restore: bool = False) -> None:
        """Run an earlier release again. Example: ./invoke prefect.rollback --env production"""
        _output.rollback(open_stack(c, env, name), name, to, restore)

    @task(
        name="exec",
        positional=["service"],
        help={"service": "one service, e.g. server; words after -- are the command"},
    )
    def execute(c: Context, service: str, env: str = "local") -> None:
        """Run a command as a service runs (targets compose, fly). Example: ./invoke prefect.exec server --env production -- prefect version"""
        _output.execute(open_stack(c, env, name), name, service)

    @task(positional=["secret"], help={"secret": "its name in stack.yml", "json": "machine-readable"})
    def rotate_secret(c: Context, secret: str, env: str = "local", json: bool = False) -> None:
        """A new value for a password. Example: ./invoke prefect.rotate-secret PREFECT_SERVER_DATABASE_PASSWORD --env production"""
        _output.rotate_secret(open_stack(c, env, name), name, secret, json)

    tasks: list[Any] = [
        setup,
        plan,
        status,
        logs,
        restart,
        stop,
        remove,
        releases,
        rollback,
        execute,
        rotate_secret,
    ]
    made = Collection(name)
    for each in tasks:
        # The examples are written for prefect; every stack shows its own name.
        each.__doc__ = (each.__doc__ or "").replace("./invoke prefect.", f"./invoke {name}.")
        made.add_task(each)
    return made
