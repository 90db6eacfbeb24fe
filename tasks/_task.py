"""`@task` as all our modules use it: Invoke's, with short flags that mean the same in every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from invoke import tasks
from invoke.parser.argument import Argument

SHORT = {
    "env": "e",
    "json": "j",
    "follow": "f",
    "lines": "l",
    "service": "s",
    "wait": "w",
    "yes": "y",
}
"""Long flag → its letter. Invoke would give each task the letters that are free there: `-e` for --env here, for --expires there."""


COMMON = {
    "json": "machine-readable output",
    "yes": "do it; without it, only say what would be done",
    "wait": "seconds to wait for another command to finish",
}
"""Help of flags that mean the same in every task."""


class Task(tasks.Task[Callable[..., Any]]):
    """A task with the letters of SHORT alone."""

    def arg_opts(self, name: str, default: str, taken_names: set[str]) -> dict[str, Any]:
        opts: dict[str, Any] = super().arg_opts(name, default, taken_names)
        if name in SHORT:
            opts["names"] = [*opts["names"], SHORT[name]]
        given = isinstance(default, str) and default
        common = COMMON.get(name, "")
        if name == "env":
            common = f"environment (default: {default})" if given else "environment"
        return {"help": common, **opts} if common else opts

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        # Invoke uses the texts up: the next name of the same task would have none.
        texts = dict(self.help)
        arguments: list[Argument] = super().get_arguments(ignore_unknown_help)
        self.help = texts
        return arguments


def task(
    name: str | None = None,
    help: Mapping[str, str] | None = None,
    positional: Sequence[str] | None = None,
) -> Callable[[Callable[..., Any]], Task]:
    """Make a task of a function. `help` maps flags to their texts; only what `positional` names may be given without its flag."""

    def made(body: Callable[..., Any]) -> Task:
        return Task(body, name=name, help=dict(help or {}), positional=positional, auto_shortflags=False)

    return made
