"""invoke.yaml, its environment overlay and INVOKE_PLATFORM_… variables → validated Settings. First stop of the flow."""

from __future__ import annotations

import copy
import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jsonschema.exceptions import ValidationError

from prefect_platform.config import credentials, overlays, state_folder, variables
from prefect_platform.config.place import Place
from prefect_platform.config.roles import Roles
from prefect_platform.config.schema import Validator
from prefect_platform.config.traits import Traits
from prefect_platform.config.variables import HINT
from prefect_platform.errors import ConfigError
from prefect_platform.files import parse_yaml

Values = dict[str, Any]
ENV_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


@dataclass(frozen=True)
class Settings:
    """One environment's settings, complete: every key of the schema is present in `values`. `traits` are its target's, `roles` the
    stacks with a part of their own, `layer` what the environment itself sets, `variables` keys that a variable sets → its name,
    `others` the environments beside it.
    """

    root: Path
    env: str
    values: Values
    traits: Traits
    roles: Roles = field(default_factory=Roles)
    origin: Place = field(default_factory=lambda: Place(Path(), ()), compare=False, repr=False)
    overlay: tuple[str, ...] = field(default=(), compare=False)
    layer: Values = field(default_factory=dict)
    variables: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    others: tuple[Settings, ...] = ()

    def place(self, *path: str | int) -> str:
        """Where a setting comes from, for messages: `invoke.yaml:12: platform.gateway.port`; its key alone if it is a default."""
        return self.origin.of(path, self.overlay)

    @property
    def target(self) -> str:
        return str(self.values["target"])

    @property
    def state(self) -> Path:
        """Folder of this environment's state on this machine (absolute)."""
        return (self.root / str(self.values["state"])).resolve() / self.env

    def key(self, *path: str) -> str:
        """Where a setting of this environment takes effect: the variable or the environment's own key that overrides the common one."""
        if path in self.variables:
            return self.variables[path]
        found: Any = self.layer
        for part in path:
            found = found.get(part) if isinstance(found, dict) else None
        environment = f"environments.{self.env}." if found is not None else ""
        return f"platform.{environment}{'.'.join(path)}"

    @property
    def vault_folder(self) -> Path:
        """What all stacks share: the Vault agent's templates, policies, the entrypoint."""
        return self.root / "vault"

    @property
    def env_suffix(self) -> str:
        return "" if self.env == "production" else f"-{self.env}"


def load(
    root: Path,
    raw: Mapping[str, Any],
    schema: Values,
    env: str,
    environ: Mapping[str, str],
    targets: Mapping[str, Traits],
    overrides: Mapping[str, Any] | None = None,
    files: Sequence[Path] = (),
) -> Settings:
    """Merge and validate. Raises ConfigError that names file, line and key.

    `raw` is Invoke's merged `platform:` mapping, `targets` are the traits by target, `overrides` outrank everything else. `files` are
    those that `raw` was read from, the one that overrides the others first (default: invoke.yaml in `root`).
    """
    place = Place(root, tuple(files or (root / "invoke.yaml",)))
    if not ENV_NAME.fullmatch(env):
        raise ConfigError(f"--env {env!r}: not a name (lower-case letters, digits, dashes)")
    base = _plain(raw, place)
    own = base.pop("environments", None)
    own = {} if own is None else own
    if not isinstance(own, dict):
        raise ConfigError(f"{place.of(['environments'])}: must map environment names to settings", HINT)
    for name, overlay in own.items():
        _check_overlay(place, name, overlay, base, schema)
    layers = overlays.with_shipped(root, own)
    if env != "local" and env not in layers:
        raise ConfigError(
            f"--env {env}: no such environment; {_known(layers)}",
            f"add it: platform.environments.{env} in invoke.yaml",
        )
    values = overlays.merge(base, layers.get(env, {}))
    place = replace(place, variables=variables.override(values, _names(schema), environ))
    values = overlays.follow(root, env, overlays.merge(values, dict(overrides or {})))
    _validate(place, values, schema, ["environments", env] if env in layers else [])
    chosen = _complete(root, env, values, layers.get(env, {}), schema, targets)
    others = _others(root, env, base, layers, schema, targets)
    overlay = ("environments", env) if env in layers else ()
    return replace(chosen, origin=place, overlay=overlay, variables=place.variables, others=others)


def _complete(
    root: Path, env: str, values: Values, layer: Values, schema: Values, targets: Mapping[str, Traits]
) -> Settings:
    filled = _filled(values, schema)
    traits = targets[filled["target"]]
    return Settings(root, env, filled, traits, Roles.of(schema), layer=layer)


def _others(
    root: Path,
    env: str,
    base: Values,
    layers: Mapping[str, Values],
    schema: Values,
    targets: Mapping[str, Traits],
) -> tuple[Settings, ...]:
    """The other environments of the same settings. `local` is one without being declared, unless the settings are for another target."""
    names = {*layers} - {env}
    if env != "local" and base.get("target", "local") == "local":
        names.add("local")
    found = []
    for name in sorted(names):
        layer = layers.get(name, {})
        values = overlays.follow(root, name, overlays.merge(base, layer))
        if Validator(schema).is_valid(values):
            found.append(_complete(root, name, values, layer, schema, targets))
    return tuple(found)


def platform_schema(sections: Mapping[str, Values], targets: Iterable[str]) -> Values:
    """The whole schema: the platform's own keys and one section per stack (key → JSON Schema). `targets` are the names to choose from."""
    core: Values = parse_yaml((Path(__file__).parent / "settings.schema.yml").read_text())
    core["properties"]["target"]["enum"] = sorted(targets)
    for name, section in sections.items():
        core["properties"][name] = {"type": "object", "additionalProperties": False, "default": {}, **section}
    return core


def leaves(schema: Values, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Values]]:
    """Every key with a value (not a section), with its schema: what an environment variable can set."""
    for key, sub in schema.get("properties", {}).items():
        if "properties" in sub:
            yield from leaves(sub, (*path, key))
        else:
            yield (*path, key), sub


def _names(schema: Values) -> dict[str, tuple[tuple[str, ...], Values]]:
    """Every variable → the key that it sets, with its schema."""
    return {variables.PREFIX + "_".join(path).upper(): (path, sub) for path, sub in leaves(schema)}


def _plain(raw: Any, place: Place) -> Values:
    """As YAML's own kinds. Raises ConfigError for keys and numbers that JSON does not have."""

    def convert(value: Any, *path: str | int) -> Any:
        if hasattr(value, "items"):
            for key in value:
                if not isinstance(key, str):
                    raise ConfigError(
                        f"{place.of(path)}: the key {key!r} is not text", 'write it in quotes: "…"'
                    )
            return {key: convert(sub, *path, key) for key, sub in value.items()}
        if isinstance(value, list):
            return [convert(sub, *path, number) for number, sub in enumerate(value)]
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{place.of(path)}: {value} is not a finite number", HINT)
        return value

    if not hasattr(raw, "items"):
        raise ConfigError("platform: must be a mapping of settings", HINT)
    return dict(convert(raw))


def _check_overlay(place: Place, name: Any, overlay: Any, base: Values, schema: Values) -> None:
    if not isinstance(name, str) or not ENV_NAME.fullmatch(name):
        raise ConfigError(f"{place.of(['environments'])}: {name!r} is not an environment name")
    if overlay is not None and not isinstance(overlay, dict):
        raise ConfigError(f"{place.of(['environments', name])}: must be a mapping", HINT)
    if "environments" in (overlay or {}):
        nested = place.of(["environments", name, "environments"])
        raise ConfigError(f"{nested}: an environment cannot contain others", "move them one level up")
    # Every overlay is checked, not only the chosen one: a slip in production shows while working on staging.
    _validate(place, overlays.merge(base, overlay or {}), schema, ["environments", name])


def _known(overlays: Values) -> str:
    return "environments: " + ", ".join(sorted({"local", *overlays}))


def _validate(
    place: Place,
    values: Values,
    schema: Values,
    prefix: list[str],
) -> None:
    # First, so that no other message quotes a value with a password.
    for path, taker in credentials.passwords(values, schema):
        where = place.variable(path) or place.of([*path], prefix)
        raise credentials.refusal(where, taker, prefix[-1] if prefix else "")
    for path in credentials.control_characters(values, schema):
        raise ConfigError(f"{place.of([*path], prefix)}: contains a line break or control character", HINT)
    errors = sorted(
        Validator(schema).iter_errors(values),
        key=lambda error: [str(p) for p in error.absolute_path],
    )
    if errors:
        raise ConfigError("\n".join(_explain(place, error, prefix) for error in errors[:5]), HINT)
    if slip := state_folder.wrong(place.root, values.get("state", state_folder.DEFAULT)):
        raise ConfigError(
            f"{place.of(['state'], prefix)}: {slip}",
            "name a folder for the platform's state alone, or leave it out for .state",
        )


def _explain(place: Place, error: ValidationError, prefix: list[str]) -> str:
    path = [*error.absolute_path]
    if error.validator == "additionalProperties":
        known = list(_rules(error).get("properties", {}))
        given: Any = error.instance
        unknown = sorted(set(given) - set(known), key=str)[0]
        near = difflib.get_close_matches(str(unknown), known, 1, 0.5)
        advice = f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(known)}"
        return f"{place.of([*path, unknown], prefix)}: unknown key{advice}"
    return f"{place.of(path, prefix)}: {_reason(error)}"


def _rules(error: ValidationError) -> Mapping[str, Any]:
    return error.schema if isinstance(error.schema, Mapping) else {}


def _reason(error: ValidationError) -> str:
    wanted = _rules(error).get("x-says")
    if wanted:
        return f"{_quoted(error.instance)} is not {wanted}"
    if error.validator == "type":
        kinds: Any = error.validator_value
        text = " or ".join(kinds) if isinstance(kinds, list) else kinds
        return f"{error.instance!r} is not of type {text}"
    return str(error.message)


def _quoted(value: Any) -> str:
    """A wrong value; not a URL with a user, in which a password may hide unseen."""
    return "the value" if isinstance(value, str) and "//" in value and "@" in value else repr(value)


def _filled(values: Any, schema: Values) -> Any:
    """Defaults filled in, recursively, in sections and in the items of lists."""
    if isinstance(values, dict) and "properties" in schema:
        filled = dict(values)
        for key, sub in schema["properties"].items():
            if key not in filled and "default" in sub:
                filled[key] = copy.deepcopy(sub["default"])
            if key in filled:
                filled[key] = _filled(filled[key], sub)
        return filled
    if isinstance(values, list) and isinstance(schema.get("items"), dict):
        return [_filled(item, schema["items"]) for item in values]
    return values
