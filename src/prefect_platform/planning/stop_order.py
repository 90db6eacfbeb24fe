"""Who stops before whom: what depends on others goes first, so that a worker can still report its end to the server. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def stop_order(after: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Groups of names, to be stopped one group after another. `after`: name → names that it depends on; unknown ones do not count.

    Within a group the names keep the order of the mapping.
    """
    depths = {name: _depth(name, after, ()) for name in after}
    return [
        [name for name in after if depths[name] == depth]
        for depth in sorted(set(depths.values()), reverse=True)
    ]


def _depth(name: str, after: Mapping[str, Collection[str]], path: tuple[str, ...]) -> int:
    """The longest chain of dependencies below a name; a circle ends where it closes."""
    below = [each for each in after[name] if each in after and each not in (*path, name)]
    return 1 + max(_depth(each, after, (*path, name)) for each in below) if below else 0
