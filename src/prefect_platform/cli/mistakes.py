"""A mistake on the command line → one paragraph with what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from invoke.exceptions import ParseError

from prefect_platform.errors import ConfigError

_UNKNOWN = re.compile(r"No idea what ['\"](?P<word>.*)['\"] is!")


def explain(error: ParseError, tasks: Sequence[str]) -> ConfigError:
    """Translate Invoke's parse error; `tasks` are the names that exist."""
    context = error.context
    task = context.name if context is not None else None
    found = _UNKNOWN.match(str(error))
    if found is None:
        return ConfigError(f"./invoke{f' {task}' if task else ''}: {error}", _help_for(task))
    word = found["word"]
    if word.startswith("-"):
        return _unknown_flag(word, task, list(context.flags) if context is not None else [])
    hint = f"did you mean {_nearest(word, tasks)}? " if _nearest(word, tasks) else ""
    return ConfigError(f"./invoke: there is no task {word!r}", f"{hint}./invoke --list names them all")


def _unknown_flag(word: str, task: str | None, flags: Sequence[str]) -> ConfigError:
    flag = word.split("=", 1)[0]
    near = _nearest(flag, flags)
    hint = f"did you mean {near}? " if near else ""
    if task is None:
        hint += "a task's own flags come after its name; "
    return ConfigError(
        f"./invoke{f' {task}' if task else ''}: there is no flag {flag}", hint + _help_for(task)
    )


def _nearest(word: str, names: Sequence[str]) -> str:
    return next(iter(difflib.get_close_matches(word, names, n=1, cutoff=0.6)), "")


def _help_for(task: str | None) -> str:
    return f"./invoke --help {task}" if task else "./invoke --help"
