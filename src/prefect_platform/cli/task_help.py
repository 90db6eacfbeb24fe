"""What `./invoke --help TASK` prints, in 80 columns."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from invoke.parser.argument import Argument

from .overview import WIDTH

_VALUES = {int: "=INT", float: "=FLOAT", bool: ""}


def lines(name: str, task: Any) -> list[str]:
    """The usage, the docstring, and each argument with its default."""
    named, arguments = placed(task), task.get_arguments()
    options = [each for each in arguments if each.name not in named]
    usage = [name, *named.values(), *(["[options]"] if options else [])]
    if getattr(task, "words", False):
        usage.append("[-- WORDS]")
    told = [f"Usage: ./invoke {' '.join(usage)}", ""]
    told += [*textwrap.indent(inspect.getdoc(task) or "", "  ").splitlines(), ""]
    if named:
        texts = {each.name: each.help or "" for each in arguments}
        told += ["Arguments:", *_columns([(text, texts[each]) for each, text in named.items()]), ""]
    if options:
        told += ["Options:", *_columns([_option(each) for each in sorted(options, key=_long)]), ""]
    return told


def placed(task: Any) -> Mapping[str, str]:
    """The parameters that are given by their place → what texts call them. The flags that a task requires are not among them."""
    found: Mapping[str, str] | None = getattr(task, "placed", None)
    return {name: name.upper() for name in task.positional} if found is None else found


def _long(argument: Argument) -> str:
    return argument.names[0]


def _option(argument: Argument) -> tuple[str, str]:
    names = [f"-{name}" if len(name) == 1 else f"--{name}" for name in reversed(argument.names)]
    if argument.kind is bool and argument.default is True:
        names[-1] = f"--[no-]{_long(argument)}"
    note = ""
    if argument.positional:
        note = "(required)"
    elif argument.kind is not bool and argument.default not in (None, ""):
        note = (
            f"(default {argument.default:g})" if argument.kind is float else f"(default {argument.default})"
        )
    return ", ".join(names) + _VALUES.get(argument.kind, "=STRING"), f"{argument.help or ''} {note}".strip()


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Each row's text beside its head, wrapped."""
    width = max(len(head) for head, _ in rows)
    told = []
    for head, text in rows:
        first, *rest = textwrap.wrap(text, WIDTH - width - 5) or [""]
        told += [f"  {head:{width}}   {first}".rstrip(), *(f"{'':{width + 5}}{line}" for line in rest)]
    return told
