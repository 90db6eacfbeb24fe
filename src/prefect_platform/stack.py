"""stacks/<name>/stack.yml → Stack: what the platform must know about a stack. A folder is all it takes to add one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from .errors import ConfigError

NAME = re.compile(r"^[a-z][a-z0-9-]{0,30}$")

_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["description"],
    "properties": {
        "description": {"type": "string"},
        "section": {"type": "string"},
        "needs": {"type": "array", "items": {"type": "string"}},
        "packages": {"type": "array", "items": {"type": "string"}},
        "secrets": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "generate"],
                "properties": {
                    "name": {"type": "string", "pattern": "^[A-Z][A-Z0-9_]+$"},
                    "generate": {"enum": ["fernet-key", "signing-keys", "password"]},
                },
            },
        },
        "settings": {"type": "object"},
    },
}


@dataclass(frozen=True)
class SecretSpec:
    """A secret by name; its value lives in the secret store only."""

    name: str
    generate: str


@dataclass(frozen=True)
class Stack:
    """One stack folder. `section` is its key under `platform:`, `packages` are folders of src/ that its processes import."""

    name: str
    folder: Path
    description: str
    section: str
    needs: tuple[str, ...]
    packages: tuple[str, ...]
    secrets: tuple[SecretSpec, ...]
    settings: Mapping[str, Any]


def names(root: Path) -> list[str]:
    """The stack folders, by folder name alone: a broken stack.yml must not break `--list`."""
    return sorted(
        path.parent.name for path in (root / "stacks").glob("*/stack.yml") if NAME.match(path.parent.name)
    )


def read(root: Path, name: str) -> Stack:
    """Parse one stack.yml. Raises ConfigError with the file and the key."""
    folder = root / "stacks" / name
    place = f"stacks/{name}/stack.yml"
    try:
        data = yaml.safe_load((folder / "stack.yml").read_text())
    except FileNotFoundError:
        raise ConfigError(f"{place}: no such stack; there are: {', '.join(names(root))}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{place}: {error}") from None
    for slip in Draft202012Validator(_SCHEMA).iter_errors(data):
        where = ".".join(str(part) for part in slip.absolute_path)
        raise ConfigError(f"{place}: {where + ': ' if where else ''}{slip.message}")
    return Stack(
        name,
        folder,
        data["description"],
        data.get("section", name),
        tuple(data.get("needs", ())),
        tuple(data.get("packages", ())),
        tuple(SecretSpec(item["name"], item["generate"]) for item in data.get("secrets", ())),
        data.get("settings", {"properties": {}}),
    )


def read_all(root: Path) -> dict[str, Stack]:
    """All stacks by name; two stacks may not claim one settings section."""
    stacks = {name: read(root, name) for name in names(root)}
    owners: dict[str, str] = {}
    for stack in stacks.values():
        if stack.section in owners:
            raise ConfigError(
                f"stacks/{stack.name}/stack.yml: section: {stack.section!r} belongs to stack {owners[stack.section]!r} already",
                "give this stack a section of its own (or none: then it is the folder's name)",
            )
        owners[stack.section] = stack.name
    return stacks


def with_needs(stacks: Mapping[str, Stack], name: str) -> list[Stack]:
    """The stack after everything it needs, in order. Raises ConfigError for an unknown need or a cycle."""
    order: list[Stack] = []

    def visit(current: str, path: tuple[str, ...]) -> None:
        if current in path:
            raise ConfigError(f"stacks: needs go in a circle: {' → '.join((*path, current))}")
        if current not in stacks:
            place = f"stacks/{path[-1]}/stack.yml: needs" if path else "stacks"
            raise ConfigError(f"{place}: no stack {current!r}; there are: {', '.join(stacks)}")
        for need in stacks[current].needs:
            visit(need, (*path, current))
        if stacks[current] not in order:
            order.append(stacks[current])

    visit(name, ())
    return order
