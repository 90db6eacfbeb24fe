"""Options that do nothing here, or that no task has."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from invoke.collection import Collection
from invoke.parser.context import ParserContext

WITHOUT_EFFECT = frozenset(
    {
        "command-timeout",
        "dry",
        "echo",
        "hide",
        "prompt-for-sudo-password",
        "pty",
        "warn-only",
        "write-pyc",
    }
)
"""Invoke's options for shell commands of its own runner, which no task here uses; and one that `program` overrules."""


Given = tuple[str, ParserContext]
"""An option as it was written, without its value, and its task."""


def unknown(words: Sequence[str], collection: Collection, core: Container[str]) -> Given | None:
    """The first option that neither its task nor `core` has, and that task. Invoke would take it for the value of an argument that the task
    still lacks.
    """
    for flag, task in _given(words, collection):
        if not any(flag in each for each in (task.flags, task.inverse_flags, core)):
            return flag, task
    return None


def twice(words: Sequence[str], collection: Collection) -> Given | None:
    """The first option with a value that its task has got already. Invoke would take the second value for a task."""
    seen: set[int] = set()
    for flag, task in _given(words, collection):
        argument = task.flags.get(flag)
        if argument is None or not argument.takes_value or argument.kind is list:
            continue
        if id(argument) in seen:
            return flag, task
        seen.add(id(argument))
    return None


def _given(words: Sequence[str], collection: Collection) -> Iterator[Given]:
    names, task, awaited = collection.task_names, None, False
    for word in words:
        if awaited:
            awaited = False
        elif word in names:
            task = ParserContext(word, args=collection[word].get_arguments())
        elif task and word.startswith("-") and word != "-":
            yield (word.partition("=")[0] if word.startswith("--") else word[:2]), task
            awaited = word in task.flags and task.flags[word].takes_value
