"""The tasks that every stack has. A stack needs no module of its own: its folder is enough."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.context import Context

from . import _output
from ._context import platform, say
from ._task import task

if TYPE_CHECKING:  # imported when a task runs: `--list` must stay fast
    from prefect_platform.environment.opened import Platform


@dataclass(frozen=True)
class Examples:
    """What the examples of one stack's tasks name, so that they can be pasted."""

    stack: str
    service: str
    secret: str
    proves: bool

    @classmethod
    def of(cls, folder: Path) -> Examples:
        """The first service of compose.yml.j2 that is always there, and the first generated password of stack.yml, found by their spelling."""
        compose = (folder / "compose.yml.j2").read_text(encoding="utf-8", errors="replace")
        service = re.search(
            r"^services:\n(?:\{%-? if [^\0]*?\{%-? endif %\}\n)?(?:  ([a-z][a-z-]*):|\{\{-? process\('([a-z-]+)'|(?:\{\{-? api\())",
            compose,
            re.MULTILINE,
        )
        found = (service[1] or service[2]) if service else None
        declared = (folder / "stack.yml").read_text(encoding="utf-8", errors="replace")
        secret = re.search(r"^  - \{name: (\w+), generate: password", declared, re.MULTILINE)
        proves = re.search(r"^proves: true\b", declared, re.MULTILINE) is not None
        return cls(folder.name, found or "server", secret[1] if secret else "NAME", proves)

    def fitted(self, text: str) -> str:
        """A task's docstring for this stack: its names, workers only where they run, and an environment that has the stack."""
        if not self.proves:
            text = text.replace("; workers finish their runs.", ".").replace("workers finish runs, ", "")
            text = text.replace(" --env local", "")
            if "--env" not in text:
                text = re.sub(r"(Example: \./invoke \S+)", r"\1 --env production", text)
        text = text.replace("./invoke prefect.", f"./invoke {self.stack}.")
        return text.replace(" SERVICE", f" {self.service}").replace(" SECRET", f" {self.secret}")


def set_up(p: Platform, name: str, dry_run: bool, wait: int, json: bool) -> None:
    """The whole way for one stack, and what there is to say about it."""
    _output.setup(p, name, dry_run, wait, json)


def set_up_needs(p: Platform, name: str, dry_run: bool, wait: int) -> None:
    """Set up the missing stacks that this one needs, in order."""

    from prefect_platform.operations import stack_order

    missing = stack_order.missing_needs(p, name)
    if dry_run and missing:
        say(f"needs these stacks first (set them up to see the plan): {', '.join(missing)}")
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
    if not what:
        about = f"{name} in environment" if name else "environment"
        return say(f"{about} {p.settings.env!r}: nothing is set up, nothing to remove")
    if not yes:
        raise ConfigError(f"this would remove {what}", "add --yes to do it")
    with p.target.lock(f"{name or 'platform'}.remove", 600):
        p.target.remove(p.stacks, name, data)
    say(f"removed {what}")
    return None


def namespace(folder: Path) -> Collection:
    """The tasks of the stack in `folder`. It is not parsed: a broken stack must not break `--list`."""
    name, examples = folder.name, Examples.of(folder)

    @task(
        help={
            "dry-run": "show the plan and touch nothing",
            "with-needs": "first set up the stacks it needs that are missing",
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
        """Set up the stack as configured, and check it.

        Example: ./invoke prefect.setup --env local
        """
        p = open_stack(c, env, name)
        if with_needs:
            set_up_needs(p, name, dry_run, wait)
        set_up(p, name, dry_run, wait, json)

    @task()
    def plan(c: Context, env: str = "local", json: bool = False) -> None:
        """Show what setup would change; touch nothing.

        Example: ./invoke prefect.plan
        """
        _output.plan(open_stack(c, env, name), name, json)

    @task()
    def status(c: Context, env: str = "local", json: bool = False) -> None:
        """Check everything; exit 0 only if healthy.

        Example: ./invoke prefect.status --json
        """
        _output.status(open_stack(c, env, name), name, json)

    @task(
        help={
            "service": "one service (default all of the stack)",
            "lines": "number of lines",
            "follow": "keep printing until Ctrl-C",
        }
    )
    def logs(
        c: Context, env: str = "local", service: str = "", lines: int = 50, follow: bool = False
    ) -> None:
        """Show the last log lines.

        Example: ./invoke prefect.logs --service SERVICE --follow
        """
        _output.logs(open_stack(c, env, name), name, service, lines, follow)

    @task(help={"service": "one service (default all of the stack)"})
    def restart(c: Context, env: str = "local", service: str = "") -> None:
        """Restart services; workers finish their runs.

        Example: ./invoke prefect.restart --service SERVICE

        Returns when they are ready; exits 5 if they are not after 3 minutes.
        """
        _output.restart(open_stack(c, env, name), name, service)

    @task()
    def stop(c: Context, env: str = "local") -> None:
        """Stop services; workers finish runs, data stays.

        Example: ./invoke prefect.stop
        """
        _output.stop(open_stack(c, env, name), name)

    @task(help={"data": "delete databases, logs and secrets as well"})
    def remove(c: Context, env: str = "local", yes: bool = False, data: bool = False) -> None:
        """Delete what setup made; data only with --data.

        Example: ./invoke prefect.remove --yes
        """
        remove_stack(open_stack(c, env, name), name, yes, data)

    @task()
    def releases(c: Context, env: str = "local", json: bool = False) -> None:
        """List releases: who, when, and the outcome.

        Example: ./invoke prefect.releases --env production
        """
        _output.releases(open_stack(c, env, name), name, json)

    @task(
        help={
            "to": f"a release of {name}.releases (default the last good one before the current)",
            "restore": "roll back across a schema change: restore the databases saved before it",
        }
    )
    def rollback(c: Context, env: str = "local", to: str = "", restore: bool = False) -> None:
        """Run an earlier release again.

        Example: ./invoke prefect.rollback --env production
        """
        _output.rollback(open_stack(c, env, name), name, to, restore)

    @task(
        name="exec",
        positional={"service": "SERVICE"},
        help={"service": "one service; words after -- are the command (default /bin/sh)"},
        words=True,
    )
    def execute(c: Context, service: str, env: str = "local") -> None:
        """Run a command in a service's container.

        Example: ./invoke prefect.exec SERVICE --env production -- sh

        On the targets compose and fly.
        """
        _output.execute(open_stack(c, env, name), name, service)

    @task(name="rotate-secret", positional={"secret": "NAME"}, help={"secret": "a secret of stack.yml"})
    def rotate_secret(c: Context, secret: str, env: str = "local", json: bool = False) -> None:
        """Give a generated password a new value.

        Example: ./invoke prefect.rotate-secret SECRET \\
          --env production
        """
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
        each.__doc__ = examples.fitted(each.__doc__ or "")
        made.add_task(each)
    return made
