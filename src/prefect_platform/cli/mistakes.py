"""A mistake on the command line → one paragraph with what was probably meant."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Collection, Mapping, Sequence

from invoke.exceptions import ParseError

from prefect_platform.errors import ConfigError

_UNKNOWN = re.compile(r"No idea what ['\"](?P<word>.*)['\"] is!")
_MISSING = re.compile(r"'.*' did not receive required positional arguments: ")
_FLAG = re.compile(r"Flag <Argument: (?P<name>[\w-]+).*> (?P<lacks>needed|doesn't take)")
HARMFUL = re.compile(
    r"(?:stop|remove|down|reboot|restart|restore|rollback|revoke|rotate|disconnect|set-database-aside|migrate)(?:-|\Z)"
)
"""The last part of a task that stops, removes or replaces something. Nobody may be led there by a slip."""
FIRST = "prefect"
"""Whose task is meant by a bare `setup`."""


def explain(error: ParseError, tasks: Sequence[str], placed: Mapping[str, str]) -> ConfigError:
    """Translate Invoke's parse error; `tasks` are the names that exist, `placed` what the task takes by its place: parameter → its name in texts."""
    context = error.context
    task = context.name if context is not None else None
    found = _UNKNOWN.match(str(error))
    if found is None:
        return ConfigError(f"{task or './invoke'}: {_in_our_words(error, placed)}", _help_for(task))
    word = found["word"]
    if word.startswith("-"):
        return _unknown_flag(word, task, list(context.flags) if context is not None else [])
    return _unknown_task(word, tasks)


def _in_our_words(error: ParseError, placed: Mapping[str, str]) -> str:
    if found := _FLAG.match(str(error)):
        flag = f"--{found['name'].replace('_', '-')}"
        return f"{flag} {'needs a value' if found['lacks'] == 'needed' else 'takes no value'}"
    if _MISSING.match(str(error)) and error.context is not None:
        lacking = error.context.missing_positional_args
        names = [placed.get(each.name or "", f"--{each.names[0]}") for each in lacking]
        *others, last = names
        return f"{', '.join(others)} and {last} are required" if others else f"{last} is required"
    return str(error)


def wrong_value(error: ValueError, words: Sequence[str], tasks: Collection[str]) -> ConfigError:
    """Invoke passes on what int("abc") raises, which names the value alone; the flag is found among the words."""
    text = str(error)
    what = "not a number" if "float" in text else "not a whole number"
    task = None
    for before, word in itertools.pairwise(["", *words]):
        task = word if word in tasks else task
        flag, _, value = word.partition("=") if word.startswith("--") else ("", "", "")
        short = (word[:2], word[2:].removeprefix("=")) if word.startswith("-") else ("", "")
        for given, each in ((flag, value), short, (before, word)):
            if given.startswith("-") and text.endswith(f": {each!r}"):
                return ConfigError(f"{task or './invoke'}: {given} {each!r}: {what}", _help_for(task))
    return ConfigError(f"{task or './invoke'}: {text}", _help_for(task))


def _unknown_task(word: str, tasks: Sequence[str]) -> ConfigError:
    groups = sorted({name.rpartition(".")[0] for name in tasks} - {""})
    if word in groups:
        return ConfigError(
            f"./invoke: {word!r} is a group of tasks, not a task", f"./invoke --list {word} names them"
        )
    if near := meant(word, tasks):
        return ConfigError(
            f"./invoke: no such task: {word!r}", f"did you mean {near}? ./invoke --list names them all"
        )
    group = _nearest(word.rpartition(".")[0] or word, groups)
    listed = f"./invoke --list {group} names those of {group}, " if group else ""
    return ConfigError(f"./invoke: no such task: {word!r}", f"{listed}./invoke --list names them all")


def meant(word: str, tasks: Sequence[str]) -> str:
    """The task that an unknown word probably means; empty if none is near, or if the nearest would do harm."""
    if "." in word:
        near = _nearest(word, tasks)
    else:
        last = _nearest(word, [name.rpartition(".")[2] for name in tasks])
        fits = [name for name in tasks if last and name.rpartition(".")[2] == last]
        near = next(
            (name for name in (f"{FIRST}.{last}", last) if name in fits), min(fits, key=len, default="")
        )
    return "" if HARMFUL.match(near.rpartition(".")[2]) else near


def _unknown_flag(word: str, task: str | None, flags: Sequence[str]) -> ConfigError:
    flag = word.split("=", 1)[0]
    near = _nearest(flag, flags)
    hint = f"did you mean {near}? " if near else ""
    if task is None:
        hint += "a task's options come after its name; "
    return ConfigError(f"{task or './invoke'}: unknown option {flag}", hint + _help_for(task))


def _nearest(word: str, names: Sequence[str]) -> str:
    return next(iter(difflib.get_close_matches(word, names, n=1, cutoff=0.6)), "")


def _help_for(task: str | None) -> str:
    return f"./invoke --help {task}" if task else "./invoke --help"
