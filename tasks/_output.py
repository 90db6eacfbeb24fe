"""What tasks print."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect_platform.cli import interrupts, streams
from prefect_platform.cli.hints import addressed

from ._context import say, services, show

if TYPE_CHECKING:
    from prefect_platform.environment.opened import Platform
    from prefect_platform.planning.diff import Plan, Step


def setup(p: Platform, name: str, dry_run: bool, wait: int, json: bool) -> None:
    from prefect_platform.errors import CheckFailed
    from prefect_platform.operations import deploy

    if dry_run:
        return plan(p, name, json)
    began = time.monotonic()
    report = deploy.setup(p, name, wait)
    changed = len(report.plan.steps) + len(report.plan.inside)
    for notice in report.notices:
        say(f"note: {notice}")
    checks(
        report.checks,
        json,
        {
            "changed": changed,
            **_planned(report.plan),
        },
    )
    done = "nothing changed" if not changed else "1 change" if changed == 1 else f"{changed} changes"
    say(f"\n{done}; {time.monotonic() - began:.1f} s")
    if not report.healthy:
        raise CheckFailed(
            "deployed, but unhealthy: see the failed checks above",
            "./invoke prefect.status, ./invoke prefect.logs --service NAME",
        )
    say(next_steps(p, name))
    return None


def plan(p: Platform, name: str, json: bool) -> None:
    from prefect_platform.operations import bundles, deploy, preconditions

    built = bundles.bundles(p, name)
    todo = deploy.make_plan(p, built)
    preconditions.require_preconditions(p, todo, built)
    for warning in deploy.warnings(p, built):
        say(f"warning: {warning}")
    if json:
        return show(_planned(todo))
    return _print_plan(todo)


def plan_environment(p: Platform, json: bool) -> None:
    from prefect_platform.operations import deploy

    plans = dict(deploy.plan_environment(p))
    if json:
        return show({name: _planned(todo) for name, todo in plans.items()})
    for name, todo in plans.items():
        if len(plans) > 1:
            print(f"== {name}")
        _print_plan(todo)
    return None


def _print_plan(todo: Plan) -> None:
    print(todo)
    for step in todo.steps:
        if step.detail:
            print("\n" + step.detail)


def _planned(todo: Plan) -> dict[str, Any]:
    """Stable keys: `steps` of the target, `objects` within the services."""
    return {"steps": [vars(step) for step in todo.steps], "objects": [_object(step) for step in todo.inside]}


def _object(step: Step) -> str:
    """A step within a service, as --json has it: `create work pool default: type process`."""
    return f"{step.action} {step.subject}{f': {step.cause}' if step.cause else ''}"


def status(p: Platform, name: str, json: bool) -> None:
    from prefect_platform.checks import health
    from prefect_platform.errors import CheckFailed

    found = health.check(p, name)
    checks(found, json, {})
    if not all(check.ok for check in found):
        raise CheckFailed(
            "not healthy",
            "./invoke prefect.logs --service NAME; ./invoke prefect.setup restores the configured state",
        )


def logs(p: Platform, name: str, service: str, lines: int, follow: bool) -> None:
    from invoke.exceptions import Exit

    try:
        names = services(p, name, service)
        _print_tail(p, names, lines)
        if follow:
            _follow(p, names)
    except KeyboardInterrupt:
        if not follow:
            raise
        interrupts.arrived()
        # How following ends: there is nothing to resume.
        raise Exit(code=interrupts.INTERRUPTED) from None


def _print_tail(p: Platform, names: Sequence[str], lines: int) -> None:
    from prefect_platform.environment import access

    for each in names:
        shown = access.tail(p, each, lines)
        if not shown:
            say(f"{each}: no log lines yet")
        for line in shown:
            print(f"{each} | {line}" if len(names) > 1 else line)
    sys.stdout.flush()


def _follow(p: Platform, names: Sequence[str]) -> None:
    """Until Ctrl-C, or until nobody reads it."""
    from prefect_platform.environment import access

    hide = access.redactor(p)
    for each, line in () if streams.unread() else p.target.follow(names):
        text = hide(line)
        print(f"{each} | {text}" if len(names) > 1 else text, flush=True)
        if streams.unread():
            return


def restart(p: Platform, name: str, service: str) -> None:
    from prefect_platform.operations import restart as operation

    with p.target.lock(f"{name}.restart", 600):
        operation.restart(p, services(p, name, service))


def releases(p: Platform, name: str, json: bool) -> None:
    from prefect_platform.targets.protocol import Releases, require

    found = require(p.target, Releases).releases(p.stacks[name])
    if json:
        return show(
            [{"release": each, "current": now, "history": line and vars(line)} for each, now, line in found]
        )
    for each, now, line in found:
        told = f"{line.result:7} {line.time}  {line.who}  {line.detail}" if line else "unfinished"
        print(f"{'*' if now else ' '} {each}  {told}")
    return None


def rollback(p: Platform, name: str, to: str, restore: bool) -> None:
    from prefect_platform.targets.protocol import Releases, require

    with p.target.lock(f"{name}.rollback", 600):
        release = require(p.target, Releases).roll_back(p.stacks[name], to, restore)
    say(f"{name} runs release {release}; the settings are unchanged, so the next setup deploys them again")
    status(p, name, False)


def execute(p: Platform, name: str, service: str) -> None:
    from invoke.exceptions import Exit

    from prefect_platform.targets.protocol import Executes, require

    words = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else ["/bin/sh"]
    if code := require(p.target, Executes).execute(services(p, name, service)[0], words):
        raise Exit(code=code)


def rotate_secret(p: Platform, name: str, secret: str, json: bool) -> None:
    from prefect_platform.errors import CheckFailed
    from prefect_platform.operations import rotate_secret as operation

    with p.target.lock(f"{name}.rotate-secret", 600):
        found = operation.rotate_secret(p, name, secret)
    checks(found, json, {})
    if not all(check.ok for check in found):
        raise CheckFailed(
            f"{secret} was changed, but some checks fail",
            f"./invoke {name}.setup --env {p.settings.env} sets the role's password from the secret",
        )


def stop(p: Platform, name: str) -> None:
    """A stack, or with "" the whole environment."""
    everything = not name or (p.target.traits.combined and name == p.main)
    names = [] if everything else services(p, name, "")
    # Not even a lock is left in an environment that nobody set up.
    if not names and not (everything and (p.target.known() or p.target.processes())):
        what = f"{name} is not set up" if name else "nothing is set up"
        say(f"{what} in environment {p.settings.env!r}: nothing to stop")
        return
    with p.target.lock(f"{name or 'platform'}.stop", 600):
        p.target.stop(names)


def next_steps(p: Platform, name: str) -> str:
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
        enter = f"{home}/   sign in here"
        if not sso.external(p.settings):
            enter += "; akadmin's first password: ./invoke authentik.first-password"
    machines = (
        "./invoke gateway.create-token --project P --service S   a token for clients and workers elsewhere"
    )
    return f"next: {enter}\n      {machines}\n      {again}"


def checks(found: Any, json: bool, more: dict[str, Any]) -> None:
    if json:
        lines = [{**vars(check), "hint": addressed(check.hint)} for check in found]
        return show({"healthy": all(check.ok for check in found), "checks": lines, **more})
    width = max((len(check.name) for check in found), default=0)
    for check in found:
        first, *rest = check.detail.splitlines() or [""]
        word = "warn" if check.warn else "ok  " if check.ok else "FAIL"
        print(f"{word}  {check.name:{width}}  {first}")
        for line in rest[-8:]:  # the end of a traceback says what happened
            print(f"{'':{width + 8}}{line}")
        if (check.warn or not check.ok) and check.hint:
            print(f"{'':{width + 8}}next: {addressed(check.hint)}")
    return None
