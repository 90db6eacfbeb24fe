"""The tasks that every stack has. A stack needs no module of its own: its folder is enough."""

from __future__ import annotations

import json as jsonlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from prefect_platform.cli import hints
from prefect_platform.cli.hints import addressed

if TYPE_CHECKING:  # imported when a task runs: `--list` must stay fast
    from prefect_platform.environment.platform import Platform

ROOT = Path(__file__).resolve().parents[1]


def say(line: str) -> None:
    """Talk goes to stderr; stdout is for data."""
    print(addressed(line), file=sys.stderr, flush=True)


def show(data: Any) -> None:
    print(jsonlib.dumps(data, indent=2, default=str))


def platform(c: Context, env: str, instead: dict[str, Any] | None = None) -> Platform:
    """The environment that a task works on; `instead` are settings that count more than the declared ones."""
    from prefect_platform.environment import platform as environment

    hints.about(env)
    return environment.open_platform(ROOT, c.config.get("platform") or {}, env, os.environ, say, instead)


def set_up(p: Platform, name: str, dry_run: bool, wait: int, json: bool) -> None:
    """The whole way for one stack, and what there is to say about it."""
    _print.setup(p, name, dry_run, wait, json)


def set_up_needs(p: Platform, name: str, dry_run: bool, wait: int) -> None:
    """What the stack needs and is not there, in order."""
    from prefect_platform.operations import deploy

    missing = deploy.missing_needs(p, name)
    if dry_run and missing:
        say(f"these would be set up first, and only then could the plan be made: {', '.join(missing)}")
        raise SystemExit(0)
    for need in missing:
        say(f"== {need}")
        set_up(p, need, False, wait, False)
    if missing:
        say(f"== {name}")


def remove_stack(p: Platform, name: str, yes: bool, data: bool) -> None:
    """A stack, or with "" the whole environment."""
    from prefect_platform.errors import ConfigError

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
        p = platform(c, env)
        if with_needs:
            set_up_needs(p, name, dry_run, wait)
        set_up(p, name, dry_run, wait, json)

    @task(help={"env": "environment of invoke.yaml (default: local)", "json": "machine-readable"})
    def plan(c: Context, env: str = "local", json: bool = False) -> None:
        """Show what setup would change, with causes. Touches nothing. Example: ./invoke prefect.plan"""
        _print.plan(platform(c, env), name, json)

    @task(help={"env": "environment of invoke.yaml (default: local)", "json": "machine-readable"})
    def status(c: Context, env: str = "local", json: bool = False) -> None:
        """Check everything now; exit 0 only if it is healthy. Example: ./invoke prefect.status --json"""
        _print.status(platform(c, env), json)

    @task(help={"service": "one service, e.g. server", "lines": "how many", "follow": "go on until Ctrl-C"})
    def logs(
        c: Context, env: str = "local", service: str = "", lines: int = 50, follow: bool = False
    ) -> None:
        """Show the last log lines. Example: ./invoke prefect.logs --service server --follow"""
        _print.logs(platform(c, env), name, service, lines, follow)

    @task(help={"service": "one service; all of the stack without it"})
    def restart(c: Context, env: str = "local", service: str = "") -> None:
        """Restart services (workers finish their runs first). Example: ./invoke prefect.restart --service server"""
        _print.restart(platform(c, env), name, service)

    @task
    def stop(c: Context, env: str = "local") -> None:
        """Stop it (on one machine: everything); workers finish their runs first. Data stays. Example: ./invoke prefect.stop"""
        _print.stop(platform(c, env), name)

    @task(help={"yes": "do it", "data": "delete databases, logs and secrets as well"})
    def remove(c: Context, env: str = "local", yes: bool = False, data: bool = False) -> None:
        """Stop and delete what setup made (on one machine: all stacks); data only with --data. Example: ./invoke prefect.remove --yes"""
        remove_stack(platform(c, env), name, yes, data)

    @task(help={"json": "machine-readable"})
    def releases(c: Context, env: str = "local", json: bool = False) -> None:
        """The releases on the host, newest first: who, when, how it ended. Example: ./invoke prefect.releases --env production"""
        _print.releases(platform(c, env), name, json)

    @task(
        help={
            "to": "a release of prefect.releases; without it the last good one before the current",
            "restore": "across a change of the schema: with the databases as they were just before it",
        }
    )
    def rollback(c: Context, env: str = "local", to: str = "", restore: bool = False) -> None:
        """Run an earlier release again. Example: ./invoke prefect.rollback --env production"""
        _print.rollback(platform(c, env), name, to, restore)

    @task(
        name="exec",
        positional=["service"],
        help={"service": "one service, e.g. server; words after -- are the command"},
    )
    def execute(c: Context, service: str, env: str = "local") -> None:
        """Run a command as a service runs (targets compose, fly). Example: ./invoke prefect.exec server --env production -- prefect version"""
        _print.execute(platform(c, env), name, service)

    @task(positional=["secret"], help={"secret": "its name in stack.yml", "json": "machine-readable"})
    def rotate_secret(c: Context, secret: str, env: str = "local", json: bool = False) -> None:
        """A new value for a password. Example: ./invoke prefect.rotate-secret PREFECT_SERVER_DATABASE_PASSWORD --env production"""
        _print.rotate_secret(platform(c, env), name, secret, json)

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


class _print:
    """What the tasks say. One function a task."""

    @staticmethod
    def setup(p: Platform, name: str, dry_run: bool, wait: int, json: bool) -> None:
        from prefect_platform.errors import CheckFailed
        from prefect_platform.operations import deploy

        if dry_run:
            return _print.plan(p, name, json)
        began = time.monotonic()
        report = deploy.setup(p, name, wait)
        changed = len(report.plan.steps) + len(report.changes)
        for notice in report.notices:
            say(f"note: {notice}")
        _checks(
            report.checks,
            json,
            {
                "changed": changed,
                "steps": [vars(step) for step in report.plan.steps],
                "objects": list(report.changes),
            },
        )
        say(
            f"\n{'nothing changed' if not changed else f'{changed} changes'}; {time.monotonic() - began:.1f} s"
        )
        if not report.healthy:
            raise CheckFailed(
                "set up, but not healthy: see the checks above",
                "./invoke prefect.status, ./invoke prefect.logs --service NAME",
            )
        say(_next(p, name))
        return None

    @staticmethod
    def plan(p: Platform, name: str, json: bool) -> None:
        from prefect_platform.operations import deploy

        built = deploy.bundles(p, name)
        todo = deploy.make_plan(p, built)
        p.target.preflight(todo, built)
        running = bool(p.target.processes())
        inside = deploy.object_changes(p) if running and not todo.of("install") else None
        if json:
            return show(
                {
                    "steps": [vars(step) for step in todo.steps],
                    "objects": list(inside) if inside is not None else None,
                }
            )
        print(todo)
        for step in todo.steps:
            if step.detail:
                print("\n" + step.detail)
        for line in inside or ():
            print(line)
        if inside is None:
            say("work pools, limits and automations are compared once Prefect runs")
        return None

    @staticmethod
    def status(p: Platform, json: bool) -> None:
        from prefect_platform.checks import health
        from prefect_platform.errors import CheckFailed

        found = health.check(p)
        _checks(found, json, {})
        if not all(check.ok for check in found):
            raise CheckFailed(
                "not healthy",
                "./invoke prefect.logs --service NAME; ./invoke prefect.setup repairs what is declared",
            )

    @staticmethod
    def logs(p: Platform, name: str, service: str, lines: int, follow: bool) -> None:
        from prefect_platform.environment import access

        names = _services(p, name, service)
        for each in names:
            for line in access.tail(p, each, lines):
                print(f"{each} | {line}" if len(names) > 1 else line)
        sys.stdout.flush()
        hide = access.redactor(p)
        for each, line in p.target.follow(names) if follow else ():
            text = hide(line)
            print(f"{each} | {text}" if len(names) > 1 else text, flush=True)

    @staticmethod
    def restart(p: Platform, name: str, service: str) -> None:
        with p.target.lock(f"{name}.restart", 600):
            p.target.restart(_services(p, name, service))

    @staticmethod
    def releases(p: Platform, name: str, json: bool) -> None:
        found = p.target.releases(p.stacks[name])
        if json:
            return show(
                [
                    {"release": each, "current": now, "history": line and vars(line)}
                    for each, now, line in found
                ]
            )
        for each, now, line in found:
            told = f"{line.result:7} {line.time}  {line.who}  {line.detail}" if line else "unfinished"
            print(f"{'*' if now else ' '} {each}  {told}")
        return None

    @staticmethod
    def rollback(p: Platform, name: str, to: str, restore: bool) -> None:
        with p.target.lock(f"{name}.rollback", 600):
            release = p.target.roll_back(p.stacks[name], to, restore)
        say(f"{name} runs release {release}; invoke.yaml is as it was: the next setup goes forward again")
        _print.status(p, False)

    @staticmethod
    def execute(p: Platform, name: str, service: str) -> None:
        from invoke.exceptions import Exit

        words = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else ["/bin/sh"]
        if code := p.target.execute(_services(p, name, service)[0], words):
            raise Exit(code=code)

    @staticmethod
    def rotate_secret(p: Platform, name: str, secret: str, json: bool) -> None:
        from prefect_platform.errors import CheckFailed
        from prefect_platform.operations import deploy

        with p.target.lock(f"{name}.rotate-secret", 600):
            found = deploy.rotate_secret(p, name, secret)
        _checks(found, json, {})
        if not all(check.ok for check in found):
            raise CheckFailed(
                f"{secret} has its new value, but not all is well with it",
                f"./invoke {name}.setup --env {p.settings.env} brings role and secret in line",
            )

    @staticmethod
    def stop(p: Platform, name: str) -> None:
        names = [] if p.target.combined else _services(p, name, "")
        if not names and not p.target.combined:
            say(f"{name} is not set up in environment {p.settings.env!r}: nothing to stop")
            return
        with p.target.lock(f"{name}.stop", 600):
            p.target.stop(names)


def _next(p: Platform, name: str) -> str:
    """What a person does after a setup that went well."""
    from prefect_platform.config import sso

    again = f"./invoke {name}.status   these checks again"
    if name != "prefect":
        return f"next: {again}"
    if not p.served:
        return f"next: {again}\n      set prefect.upstream in the environment of the gateway, and ./invoke prefect.setup there"
    home = p.url + p.target.where("prefect").base
    enter = f"./invoke gateway.login-url   a link that opens {home}/ in a browser"
    if sso.guards_prefect(p.settings):
        enter = f"{home}/   people sign in there"
        if not sso.external(p.settings):
            enter += "; akadmin's first password: ./invoke authentik.first-password"
    machines = "./invoke gateway.create-token   a token for clients and workers elsewhere"
    return f"next: {enter}\n      {machines}\n      {again}"


def _checks(found: Any, json: bool, more: dict[str, Any]) -> None:
    if json:
        lines = [{**vars(check), "hint": addressed(check.hint)} for check in found]
        return show({"healthy": all(check.ok for check in found), "checks": lines, **more})
    width = max((len(check.name) for check in found), default=0)
    for check in found:
        first, *rest = check.detail.splitlines() or [""]
        print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:{width}}  {first}")
        for line in rest[-8:]:  # the end of a traceback says what happened
            print(f"{'':{width + 8}}{line}")
        if not check.ok and check.hint:
            print(f"{'':{width + 8}}next: {addressed(check.hint)}")
    return None


def _services(p: Platform, name: str, service: str) -> list[str]:
    from prefect_platform.errors import ConfigError

    names = [process.name for process in p.target.processes()] or p.target.known()
    mine = [each for each in names if each.startswith(f"{name}-")]
    if not names:
        raise ConfigError(f"environment {p.settings.env!r}: nothing is set up here", f"./invoke {name}.setup")
    if not service:
        return mine
    fits = [each for each in names if service in (each, each.removeprefix(f"{name}-"))]
    full = (fits or [each for each in names if each.endswith(f"-{service}")] or [""])[0]
    if not full:
        raise ConfigError(
            f"--service {service}: no such service; there are: {', '.join(each.removeprefix(f'{name}-') for each in mine) or 'none'}"
        )
    return [full]
