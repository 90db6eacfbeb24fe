"""Where a setting comes from: the file and line, or the variable, that an error names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Place:
    """Settings files, the one that overrides the others first; those below `root` are named relative to it."""

    root: Path
    files: tuple[Path, ...]
    variables: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    """Keys that an environment variable sets → its name; it overrides the files."""

    def of(self, path: Sequence[Any], prefix: Sequence[Any] = ()) -> str:
        """`invoke.yaml:12: platform.gateway.port`, with the line of the key, or of its environment's (`prefix`), in the file; or the
        variable's name.
        """
        if variable := self.variable(path):
            return f"{variable}: platform.{_dotted(path)}"
        for candidate in ([*prefix, *path], list(path)):
            for file in self.files:
                if line := line_of(file, ["platform", *candidate]):
                    return f"{self._name(file)}:{line}: platform.{_dotted(candidate)}"
        return f"platform.{_dotted(path)}"

    def variable(self, path: Sequence[Any]) -> str:
        """The variable that sets this key, or what it is part of; empty if none does."""
        parts = (tuple(path[:length]) for length in range(1, len(path) + 1))
        return next((self.variables[part] for part in parts if part in self.variables), "")

    def _name(self, file: Path) -> str:
        return str(file.relative_to(self.root)) if file.is_relative_to(self.root) else str(file)


def line_of(file: Path, path: Iterable[Any]) -> int | None:
    """The line of a key, given by the keys and list positions that lead to it; None if it is not in this file."""
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError):
        return None
    line = None
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                return None
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return None
    return line


def _dotted(path: Sequence[Any]) -> str:
    return re.sub(
        r"\.\[", "[", ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in path)
    )
