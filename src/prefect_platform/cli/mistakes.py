"""A mistake on the command line → one paragraph with what was probably meant."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from invoke.exceptions import ParseError

from prefect_platform.errors import ConfigError

_UNKNOWN = re.compile(r"No idea what ['\"](?P<word>.*)['\"] is!")
_MISSING = re.compile(r"'.*' did not receive required positional arguments: ")
_FLAG = re.compile(r"Flag <Argument: (?P<name>[\w-]+).*> (?P<lacks>needed|doesn't take)")
HARMFUL = re.compile(
    r"(?:stop|remove|down|reboot|restart|restore|rollback|revoke|rotate|disconnect|set-database-aside|migrate)(?:-|\Z)"
)
"""The last part of a task that stops, removes or replaces something. Nobody may be led there by a slip."""
_DRY = ("--dry", "-R")
"""Invoke's own, which other programs made with it have."""
FIRST = "prefect"
"""Whose task is meant by a bare `setup`."""


@dataclass(frozen=True)
class Asked:
    """The task that a wrong word follows (`task`), or else precedes (`meant` is either), and what is known of it.

    `tasks` are the names that exist, `takes` the long flags of `meant`, `placed` what it takes by its place: parameter → its name in texts,
    `words` whether it takes words after `--`.
    """

    task: str | None
    meant: str | None = None
    tasks: Sequence[str] = ()
    takes: Sequence[str] = ()
    placed: Mapping[str, str] = field(default_factory=dict)
    words: bool = False
    environments: Collection[str] = ()


def explain(error: ParseError, asked: Asked) -> ConfigError:
    """Translate Invoke's parse error."""
    found = _UNKNOWN.match(str(error))
    if found is None:
        return ConfigError(
            f"{asked.task or './invoke'}: {_in_our_words(error, asked.placed)}", _help_for(asked.task)
        )
    word = found["word"]
    if word.startswith("-"):
        return _unknown_flag(word, asked, list(error.context.flags) if error.context is not None else [])
    if hint := _misplaced(word, asked):
        return ConfigError(f"{asked.task or './invoke'}: unexpected word {word!r}", hint)
    return _unknown_task(word, asked.tasks)


def _misplaced(word: str, asked: Asked) -> str:
    """How to give a word that is no task: an environment's name, or what follows a task that takes one; empty for a misspelt task."""
    names = [part for name in asked.tasks for part in (name, *name.split("."))]
    if asked.task and asked.words and word not in asked.environments:
        return f"the command comes after --: ./invoke --help {asked.task}"
    guess = asked.task and not asked.placed and re.fullmatch(r"[a-z0-9][a-z0-9-]*", word)
    if word in asked.environments or (guess and word not in names):
        if "--env" in asked.takes:
            quotes = "" if word in asked.environments else "; a value with spaces needs quotes"
            return f"an environment is given with --env: ./invoke {asked.meant} --env {word}{quotes}"
        if not asked.meant and word in asked.environments:
            return f"an environment is given after the task: ./invoke {FIRST}.status --env {word}"
    return ""


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


def _unknown_flag(word: str, asked: Asked, flags: Sequence[str]) -> ConfigError:
    flag, task = word.split("=", 1)[0], asked.task
    problem = f"{task or './invoke'}: unknown option {flag}"
    if flag in _DRY and asked.meant:
        return ConfigError(f"{problem}; nothing was done", _without_effect(asked.meant, asked.takes))
    near = _nearest(flag, flags)
    hint = f"did you mean {near}? " if near else ""
    if task is None:
        hint += "a task's options come after its name; "
    return ConfigError(problem, hint + _help_for(task))


def _without_effect(task: str, takes: Sequence[str]) -> str:
    """How to see what a task would do."""
    if "--dry-run" in takes:
        return f"./invoke {task} --dry-run shows the plan and touches nothing"
    if "--yes" in takes:
        return f"without --yes, ./invoke {task} only says what it would do"
    return f"{task} has no dry run; ./invoke --help {task}"


def _nearest(word: str, names: Sequence[str]) -> str:
    return next(iter(difflib.get_close_matches(word, names, n=1, cutoff=0.6)), "")


def _help_for(task: str | None) -> str:
    return f"./invoke --help {task}" if task else "./invoke --help"
