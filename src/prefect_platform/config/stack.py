"""stacks/<name>/stack.yml → Stack: what the platform must know about a stack. A folder is all it takes to add one."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from prefect_platform.config import roles
from prefect_platform.config.schema import Validator
from prefect_platform.config.traits import Topology, Traits
from prefect_platform.errors import ConfigError
from prefect_platform.files import parse_yaml

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")

_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["description"],
    "properties": {
        "description": {"type": "string"},
        "section": {"type": "string"},
        "needs": {"type": "array", "items": {"type": "string"}},
        "packages": {"type": "array", "items": {"type": "string"}},
        "libraries": {"type": "array", "items": {"type": "string"}},
        "scope": {"enum": ["environment", "host"]},
        "topology": {"enum": ["combined", "split"]},
        "expose": {"enum": ["at-once", "when-complete"]},
        "proves": {"type": "boolean"},
        "role": {"enum": ["database", "proxy", "secrets"]},
        "sqlite": {
            "type": "object",
            "additionalProperties": False,
            "required": ["file", "program", "service"],
            "properties": {
                "file": {"type": "string", "pattern": "^[a-z][a-z0-9_.-]*$"},
                "program": {"type": "string", "pattern": "^[a-z][a-z0-9_]*[.]py$"},
                "service": {"type": "string", "pattern": "^[a-z][a-z0-9-]*$"},
            },
        },
        "databases": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "password"],
                "properties": {
                    "name": {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,40}$"},
                    "password": {"type": "string"},
                    "extensions": {"type": "array", "items": {"type": "string", "pattern": "^[a-z_]+$"}},
                },
            },
        },
        "secrets": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "pattern": "^[A-Z][A-Z0-9_]+$"},
                    "generate": {"enum": ["fernet-key", "signing-keys", "password", "key"]},
                    "from": {"type": "string", "pattern": "^[a-z][a-z0-9-]*/[A-Z][A-Z0-9_]+$"},
                    "given": {"type": "string"},
                    "topology": {"enum": ["combined", "split"]},
                },
                "oneOf": [{"required": ["generate"]}, {"required": ["from"]}, {"required": ["given"]}],
            },
        },
        "settings": {"type": "object"},
    },
}


@dataclass(frozen=True)
class SecretSpec:
    """A secret by name; its value lives in the secret store only.

    `source` is another stack's secret, `<stack>/<NAME>`, instead of one that is generated. `given` names a setting of the stack: where
    that is set, a person gives the value once, in an environment variable of the secret's name. `topology`: "" is both.
    """

    name: str
    generate: str
    source: str = ""
    topology: str = ""
    given: str = ""


@dataclass(frozen=True)
class DatabaseSpec:
    """A database of the shared Postgres with a role of the same name; `password` names the secret with the role's password."""

    name: str
    password: str
    extensions: tuple[str, ...] = ()


@dataclass(frozen=True)
class SqliteSpec:
    """The SQLite database of a single machine: `file` in the stack's data folder, written by `service`.

    `program`, of the stack's folder, takes `make-template FILE`, `check-database FILE [--full]` (exit code 3: refused), `backup FILE`
    and `restore FILE`.
    """

    file: str
    program: str
    service: str


@dataclass(frozen=True)
class Stack:
    """One stack folder. `section` is its key under `platform:`, `packages` are folders of src/ that its processes import.

    `expose` says when its routes are first served: before its containers start (requests then wait), or when its setup is over.
    `libraries` are installed pure-Python packages that an official image lacks, `scope` says whether there is one for each
    environment or one for the whole host, `topology` where it can run ("" is everywhere). `proves`: its setup ends with the checks of a
    client and the canary. `along`: stacks whose configuration depends on this one's settings, set up with it. `role`: its part for all
    others (`roles.Roles`). `sqlite`: its database where a single machine runs it.
    """

    name: str
    folder: Path
    description: str
    section: str
    needs: tuple[str, ...]
    packages: tuple[str, ...]
    secrets: tuple[SecretSpec, ...]
    settings: Mapping[str, Any]
    libraries: tuple[str, ...] = ()
    scope: str = "environment"
    topology: str = ""
    databases: tuple[DatabaseSpec, ...] = ()
    expose: str = "at-once"
    proves: bool = False
    along: tuple[str, ...] = ()
    role: str = ""
    sqlite: SqliteSpec | None = None

    @property
    def roles(self) -> list[str]:
        """A copy of the stack that an environment is for proves itself too; the first by name is the main one."""
        return [*(["main"] if self.proves else []), *([self.role] if self.role else [])]

    def on(self, topology: Topology) -> Stack:
        """The stack as that topology runs it: without the secrets and databases of the other one."""
        secrets = tuple(spec for spec in self.secrets if spec.topology in ("", topology))
        names = {spec.name for spec in secrets if not spec.given}
        return replace(
            self, secrets=secrets, databases=tuple(d for d in self.databases if d.password in names)
        )

    def as_set(self, values: Mapping[str, Any]) -> Stack:
        """The stack with its section's values: without the secrets that a person would give for what is not set."""
        secrets = tuple(spec for spec in self.secrets if not spec.given or values[spec.given])
        return replace(self, secrets=secrets)

    def schema(self) -> dict[str, Any]:
        """The section's JSON Schema. `x-given` at a setting is (stack, variable) of the secret that takes its password, `x-roles` of the
        section maps the stack's roles to its name.
        """
        found = copy.deepcopy(dict(self.settings))
        for spec in reversed(self.secrets):
            if spec.given:
                found["properties"][spec.given]["x-given"] = (self.name, spec.name)
        found[roles.KEY] = dict.fromkeys(self.roles, self.name)
        return found

    def runs_on(self, topology: Topology) -> bool:
        return self.topology in ("", topology)


def names(root: Path) -> list[str]:
    """The stack folders, by folder name alone: a broken stack.yml must not break `--list`."""
    return sorted(
        path.parent.name for path in (root / "stacks").glob("*/stack.yml") if NAME.fullmatch(path.parent.name)
    )


def read(root: Path, name: str) -> Stack:
    """Parse one stack.yml. Raises ConfigError with the file and the key."""
    folder = root / "stacks" / name
    place = f"stacks/{name}/stack.yml"
    try:
        data = parse_yaml((folder / "stack.yml").read_text())
    except FileNotFoundError:
        raise ConfigError(f"{place}: no such stack; stacks: {', '.join(names(root))}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{place}: {error}") from None
    for slip in Validator(_SCHEMA).iter_errors(data):
        where = ".".join(str(part) for part in slip.absolute_path)
        raise ConfigError(f"{place}: {where + ': ' if where else ''}{slip.message}")
    return Stack(
        name,
        folder,
        data["description"],
        data.get("section", name),
        tuple(data.get("needs", ())),
        tuple(data.get("packages", ())),
        tuple(_secret(item) for item in data.get("secrets", ())),
        data.get("settings", {"properties": {}}),
        tuple(data.get("libraries", ())),
        data.get("scope", "environment"),
        data.get("topology", ""),
        tuple(
            DatabaseSpec(item["name"], item["password"], tuple(item.get("extensions", ())))
            for item in data.get("databases", ())
        ),
        data.get("expose", "at-once"),
        data.get("proves", False),
        role=data.get("role", ""),
        sqlite=SqliteSpec(**data["sqlite"]) if "sqlite" in data else None,
    )


def _secret(item: Mapping[str, Any]) -> SecretSpec:
    return SecretSpec(
        item["name"],
        item.get("generate", ""),
        item.get("from", ""),
        item.get("topology", ""),
        item.get("given", ""),
    )


def read_all(root: Path) -> dict[str, Stack]:
    """All stacks by name; two stacks may not claim one settings section or one role."""
    stacks = {name: read(root, name) for name in names(root)}
    owners: dict[str, str] = {}
    players: dict[str, str] = {}
    for stack in stacks.values():
        if stack.role and players.setdefault(stack.role, stack.name) != stack.name:
            raise ConfigError(
                f"stacks/{stack.name}/stack.yml: role {stack.role!r} belongs to stack {players[stack.role]!r} already",
                "only one stack can have it: delete the line in the other",
            )
        if stack.section in owners:
            raise ConfigError(
                f"stacks/{stack.name}/stack.yml: section: {stack.section!r} belongs to stack {owners[stack.section]!r} already",
                "choose another section (default: the folder's name)",
            )
        owners[stack.section] = stack.name
    return stacks


def for_target(stacks: Mapping[str, Stack], traits: Traits) -> dict[str, Stack]:
    """The stacks that run there, each needing only what runs there too.

    Where a host is shared, what belongs to the whole host needs nothing of a single environment.
    """
    topology, shared = traits.topology, traits.shared_host
    there = {name: each.on(topology) for name, each in stacks.items() if each.runs_on(topology)}

    def keeps(each: Stack, need: str) -> bool:
        if need in stacks and need not in there:
            return False
        return not (shared and each.scope == "host" and need in there and there[need].scope != "host")

    return {
        name: replace(each, needs=tuple(need for need in each.needs if keeps(each, need)))
        for name, each in there.items()
    }


def with_needs(stacks: Mapping[str, Stack], name: str) -> list[Stack]:
    """The stack after everything it needs, in order. Raises ConfigError for an unknown need or a cycle."""
    order: list[Stack] = []

    def visit(current: str, path: tuple[str, ...]) -> None:
        if current in path:
            raise ConfigError(f"stacks: circular needs: {' → '.join((*path, current))}")
        if current not in stacks:
            place = f"stacks/{path[-1]}/stack.yml: needs" if path else "stacks"
            raise ConfigError(f"{place}: no stack {current!r}; stacks: {', '.join(stacks)}")
        for need in stacks[current].needs:
            visit(need, (*path, current))
        if stacks[current] not in order:
            order.append(stacks[current])

    visit(name, ())
    return order
