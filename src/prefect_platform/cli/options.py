"""Options that do nothing here, or that no task has."""

from __future__ import annotations

from collections.abc import Container, Sequence

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


def unknown(
    words: Sequence[str], collection: Collection, core: Container[str]
) -> tuple[str, ParserContext] | None:
    """The first option that neither its task nor `core` has, and that task. Invoke would take it for the value of an argument that the task
    still lacks.
    """
    names = collection.task_names
    context, before = None, ""
    for word in words:
        awaited = context is not None and before in context.flags and context.flags[before].takes_value
        if not awaited and word in names:
            context = ParserContext(word, args=collection[word].get_arguments())
        elif not awaited and context and word.startswith("-") and word != "-":
            flag = word.partition("=")[0] if word.startswith("--") else word[:2]
            if not any(flag in each for each in (context.flags, context.inverse_flags, core)):
                return flag, context
        before = word
    return None
