"""What `./invoke` alone prints: first steps, then a line for each group of tasks that this clone's environments use."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.util import helpline

import prefect_platform

WIDTH = 80
FIRST_STEPS = ("prefect.setup", "gateway.login-url", "prefect.status", "prefect.plan")
SPLIT = frozenset({"compose", "swarm"})
ONLY_FOR: Mapping[str, frozenset[str]] = {
    "fly": frozenset({"fly"}),
    "host": SPLIT,
    "lab": SPLIT,
    "monitor": SPLIT | {"fly"},
}
"""Groups that are no stack → the targets that have a use for them; all others are for every target."""


def targets_of(raw: Mapping[str, Any]) -> frozenset[str]:
    """The targets that the `platform:` settings declare. Not validated: a slip there must not cost the overview."""
    found = {"local"}
    environments = raw.get("environments") or {}
    for each in [raw, *(environments.values() if hasattr(environments, "values") else ())]:
        if hasattr(each, "get") and each.get("target"):
            found.add(str(each.get("target")))
    return frozenset(found)


def lines(root: Path, collection: Collection, targets: frozenset[str]) -> list[str]:
    """At most 40 lines of at most 80 columns."""
    title = f"{(prefect_platform.__doc__ or '').strip().rstrip('.')} ({prefect_platform.__version__})"
    told = [*textwrap.wrap(title, WIDTH), ""]
    steps = [
        (f"./invoke {name}", helpline(collection[name]) or "")
        for name in FIRST_STEPS
        if name in collection.task_names
    ]
    if steps:
        told += ["First steps", *_columns(steps), ""]
    groups = [
        (f"./invoke --list {name}", _summary(root, name, sub))
        for name, sub in sorted(collection.collections.items())
        if _shown(root, name, targets)
    ]
    if groups:
        told += ["Groups of tasks", *_columns(groups), ""]
    if hidden := sorted(name for name in collection.collections if not _shown(root, name, targets)):
        text = f"Not used by your environments: {', '.join(hidden)}. ./invoke --list NAME shows them too."
        told += [*textwrap.wrap(text, WIDTH), ""]
    if own := sorted(collection.transform(name) for name in collection.tasks):
        told += [*textwrap.wrap(f"For developers: {', '.join(own)}", WIDTH), ""]
    return [
        *told,
        "./invoke --help TASK explains a task, ./invoke --list names all,",
        "./invoke --help shows the other options.",
    ]


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(head) for head, _ in rows)
    return [f"  {head:{width}}  {text}".rstrip() for head, text in rows]


def _summary(root: Path, name: str, group: Collection) -> str:
    """The first sentence of a stack's description, or of the module that has the tasks."""
    text = str(_stack(root, name).get("description", "")) or helpline(group) or ""
    return text.partition(". ")[0].rstrip(".")


def _shown(root: Path, name: str, targets: frozenset[str]) -> bool:
    declared = _stack(root, name)
    only = SPLIT if declared.get("topology") == "split" else frozenset(declared.get("targets") or targets)
    return bool(targets & ONLY_FOR.get(name, only))


def _stack(root: Path, name: str) -> Mapping[str, Any]:
    """The first lines of a stack's declaration, which is read here without being checked."""
    from invoke.vendor import yaml

    try:
        data = yaml.safe_load((root / "stacks" / name / "stack.yml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return data if isinstance(data, dict) else {}
