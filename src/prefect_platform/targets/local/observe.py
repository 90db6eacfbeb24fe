"""This machine's state, as the plan compares it with the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from prefect_platform.planning import diff
from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import REPLACED, Observed, Running, Step
from prefect_platform.venvs import make

from . import rendered
from .installation import Installation


def observe(on: Installation, bundles: Sequence[Bundle]) -> Observed:
    """The machine as it is now. Files of other stacks are not read."""
    stacks = [bundle.stack for bundle in bundles]
    runtime = _runtime_steps(on, bundles)
    # What runs may have loaded what was there before it is made again.
    rebuilt = any(step.action == "install" for step in runtime) and on.venv.exists()
    files = _files(on, {stack.name for stack in stacks})
    seen = Observed(
        supervisor=on.supervisor.alive(),
        files=files,
        running=_running(on, rebuilt),
        missing={stack.name: tuple(spec.name for spec in on.store.missing(stack)) for stack in stacks},
        secret_versions={stack.name: on.store.version(stack) for stack in stacks},
        more=(*runtime, *_mode_steps(on, bundles, files)),
    )
    return replace(seen, more=(*seen.more, *rendered.steps(on, bundles, diff.make(bundles, seen))))


def _running(on: Installation, rebuilt: bool) -> dict[str, Running]:
    records = on.records()
    return {
        info["name"]: Running(
            records.get(info["name"], {}).get("facts", {}).get("stack", ""),
            REPLACED if rebuilt and state == "RUNNING" else state,
            info["pid"],
            records.get(info["name"], {}).get("facts"),
            records.get(info["name"], {}).get("secret_version", ""),
        )
        for info, (state, _) in on.judged()
    }


def _runtime_steps(on: Installation, bundles: Sequence[Bundle]) -> tuple[Step, ...]:
    """What is made once for all environments: programs, and an empty migrated database to begin with."""
    steps = []
    lock = on.lock_file.read_bytes()
    if not (on.venv.exists() and make.is_current(on.venv, lock)):
        others = on.venv.parent.exists() and any(on.venv.parent.iterdir())
        steps.append(Step("install", "runtime", "its lock changed" if others else "not there yet"))
    elif changed := make.changed(on.venv):
        steps.append(Step("install", "runtime", changed))
    if any(bundle.stack.sqlite for bundle in bundles) and (steps or not on.template.exists()):
        steps.append(Step("prepare", "database template", "not there yet"))
    return tuple(steps)


def _files(on: Installation, stacks: set[str]) -> dict[str, bytes]:
    base = on.state / "stacks"
    files = {}
    for path in base.rglob("*"):
        name = path.relative_to(base)
        mine = name.parts[0] in stacks or (name.parts[0] == "routes" and path.stem in stacks)
        if mine and path.is_file() and "__pycache__" not in name.parts and path.suffix != ".tmp":
            files[str(name)] = _content(path)
    return files


def _content(file: Path) -> bytes:
    """Nothing of one that may not be read: it is written once more."""
    try:
        return file.read_bytes()
    except PermissionError:
        return b""


def _mode_steps(on: Installation, bundles: Sequence[Bundle], files: Mapping[str, bytes]) -> tuple[Step, ...]:
    """Files with the wanted content that others than their user may read or write, or that cannot be written."""
    steps = []
    for path, content in sorted(diff.wanted_files(bundles).items()):
        if files.get(path) == content and (cause := rendered.wrong_mode(on.state / "stacks" / path)):
            steps.append(Step("write", path, cause))
    return tuple(steps)
