"""The tasks of `./invoke`: one namespace per stack folder, tasks of their own for prefect and gateway, developers' tasks at the root."""

from __future__ import annotations

from pathlib import Path

from invoke.collection import Collection

from . import _stack, authentik, dev, fly, gateway, host, lab, monitor, platform, prefect, vault

ROOT = Path(__file__).resolve().parents[1]


def build_root(root: Path) -> Collection:
    """Reads folder names only: a broken stack must not break `--list`."""
    made = Collection()
    own = {"prefect": prefect, "gateway": gateway, "vault": vault, "authentik": authentik}
    for folder in sorted(path.parent.name for path in (root / "stacks").glob("*/stack.yml")):
        namespace = _stack.namespace(folder)
        if folder in own:
            for each in Collection.from_module(own[folder]).tasks.values():
                namespace.add_task(each)
            if folder == "authentik":
                # As older runbooks call them.
                namespace.add_collection(Collection.from_module(authentik, name="shared"))
        made.add_collection(namespace)
    made.add_collection(Collection.from_module(platform, name="platform"))
    made.add_collection(Collection.from_module(host, name="host"))
    made.add_collection(Collection.from_module(lab, name="lab"))
    made.add_collection(Collection.from_module(monitor, name="monitor"))
    made.add_collection(Collection.from_module(fly, name="fly"))
    for each in Collection.from_module(dev).tasks.values():
        made.add_task(each)
    return made


namespace = build_root(ROOT)
