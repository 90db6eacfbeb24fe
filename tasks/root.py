"""The collection of all tasks: a namespace for each stack folder, more tasks for some of them, developers' tasks at the root."""

from __future__ import annotations

from pathlib import Path

from invoke.collection import Collection

from prefect_platform.cli.aliases import Aliases

from . import (
    _stack,
    authentik_tasks,
    dev_tasks,
    fly_tasks,
    gateway_tasks,
    host_tasks,
    lab_tasks,
    monitor_tasks,
    platform_tasks,
    prefect_tasks,
    vault_tasks,
)

ROOT = Path(__file__).resolve().parents[1]
OF_STACKS = {
    "prefect": prefect_tasks,
    "gateway": gateway_tasks,
    "vault": vault_tasks,
    "authentik": authentik_tasks,
}
"""Tasks that only one stack has."""
OTHERS = {
    "platform": platform_tasks,
    "host": host_tasks,
    "lab": lab_tasks,
    "monitor": monitor_tasks,
    "fly": fly_tasks,
}


def build_root(root: Path) -> Collection:
    """Parses no stack: a broken stack must not break `--list`."""
    made = Collection()
    for folder in sorted(path.parent for path in (root / "stacks").glob("*/stack.yml")):
        namespace = _stack.namespace(folder)
        if folder.name in OF_STACKS:
            for each in Collection.from_module(OF_STACKS[folder.name]).tasks.values():
                namespace.add_task(each)
        if folder.name == "authentik":
            # As older runbooks call them.
            namespace.add_collection(Aliases.of(authentik_tasks, "shared"))
        made.add_collection(namespace)
    for name, module in OTHERS.items():
        made.add_collection(Collection.from_module(module, name=name))
    for each in Collection.from_module(dev_tasks).tasks.values():
        made.add_task(each)
    return made


namespace = build_root(ROOT)
