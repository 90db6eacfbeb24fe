"""Other names of tasks: they work, and no list shows them."""

from __future__ import annotations

from types import ModuleType

from invoke.collection import Collection


class Aliases(Collection):
    """A namespace of tasks that another namespace shows."""

    @classmethod
    def of(cls, module: ModuleType, name: str) -> Aliases:
        """The tasks of `module` under `name`."""
        made = cls(name)
        for task in Collection.from_module(module).tasks.values():
            made.add_task(task)
        return made


def without_aliases(collection: Collection) -> Collection:
    """The same collection for a list; the original keeps its aliases."""
    shown = Collection()
    shown.name = collection.name
    shown.default = collection.default
    shown.tasks = collection.tasks
    for name, sub in collection.collections.items():
        if not isinstance(sub, Aliases):
            shown.collections[name] = without_aliases(sub)
    return shown
