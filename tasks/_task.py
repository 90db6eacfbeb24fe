"""`@task` as all our modules use it: Invoke's, with short flags that mean the same in every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    "env": "environment",
    "json": "machine-readable output",
    "yes": "do it; without it, only say what would be done",
    "wait": "seconds to wait for another command to finish",
}
"""Help of flags that mean the same in every task."""


class Task(tasks.Task[Callable[..., Any]]):
    """A task with the letters of SHORT alone."""

    placed: Mapping[str, str]
    """The parameters that are given by their place → what texts call them."""
    words: bool
    """Whether it takes words after `--`."""

    def arg_opts(self, name: str, default: str, taken_names: set[str]) -> dict[str, Any]:
        opts: dict[str, Any] = super().arg_opts(name, default, taken_names)
        if name in SHORT:
            opts["names"] = [*opts["names"], SHORT[name]]
        common = COMMON.get(name, "")
        if self.body.__annotations__.get(name) in ("int", int):
            # Invoke knows the kind of a value by its default alone.
            opts["kind"] = int
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
    positional: Mapping[str, str] | None = None,
    words: bool = False,
) -> Callable[[Callable[..., Any]], Task]:
    """Make a task of a function. `help` maps flags to their texts, `positional` the parameters that are given by their place to what help
    calls them; `words`: the task takes words after `--`. A parameter without a default is required.
    """

    def made(body: Callable[..., Any]) -> Task:
        # Invoke notices only positional parameters when they are missing: it takes all those without a default as such.
        task = Task(body, name=name, help=dict(help or {}), auto_shortflags=False)
        task.placed, task.words = positional or {}, words
        return task

    return made
