"""invoke.yaml, its environment overlay and INVOKE_PLATFORM_… variables → validated Settings. First stop of the flow."""

from __future__ import annotations

import copy
import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from jsonschema.exceptions import ValidationError

from prefect_platform.config import credentials, state_folder
from prefect_platform.config.place import Place
from prefect_platform.config.roles import Roles
from prefect_platform.config.schema import Validator
from prefect_platform.config.traits import Traits
from prefect_platform.errors import ConfigError
from prefect_platform.files import parse_yaml

Values = dict[str, Any]
PREFIX = "INVOKE_PLATFORM_"
ENV_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
HINT = "invoke.example.yaml explains every key"


@dataclass(frozen=True)
class Settings:
    """One environment's settings, complete: every key of the schema is present in `values`. `traits` are its target's, `roles` the
    stacks with a part of their own.
    """

    root: Path
    env: str
    values: Values
    traits: Traits
    roles: Roles = field(default_factory=Roles)
    origin: Place = field(default_factory=lambda: Place(Path(), ()), compare=False, repr=False)
    overlay: tuple[str, ...] = field(default=(), compare=False)

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
    base = _plain(raw)
    overlays = base.pop("environments", None)
    overlays = {} if overlays is None else overlays
    if not isinstance(overlays, dict):
        raise ConfigError(f"{place.of(['environments'])}: must map environment names to settings", HINT)
    for name, overlay in overlays.items():
        _check_overlay(place, name, overlay, base, schema)
    _ship(root, overlays)
    if env != "local" and env not in overlays:
        raise ConfigError(
            f"--env {env}: no such environment; {_known(overlays)}",
            f"add it: platform.environments.{env} in invoke.yaml",
        )
    values = _merge(base, overlays.get(env) or {})
    place = replace(place, variables=_override(values, schema, environ))
    values = _merge(values, dict(overrides or {}))
    prefix = ["environments", env] if env in overlays else []
    _validate(place, values, schema, prefix)
    filled = _filled(values, schema)
    traits = targets[filled["target"]]
    return Settings(root, env, filled, traits, Roles.of(schema), place, tuple(prefix))


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


def _plain(raw: Any) -> Values:
    def convert(value: Any) -> Any:
        if hasattr(value, "items"):
            return {key: convert(sub) for key, sub in value.items()}
        return [convert(sub) for sub in value] if isinstance(value, list) else value

    if not hasattr(raw, "items"):
        raise ConfigError("platform: must be a mapping of settings", HINT)
    return {key: convert(value) for key, value in raw.items()}


def _merge(base: Values, over: Values) -> Values:
    merged = copy.deepcopy(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


def _ship(root: Path, overlays: Values) -> None:
    """Add the environments that a folder of the clone brings (lab/environment.yaml), unless the user declares one of that name."""
    for file in sorted(root.glob("*/environment.yaml")):
        if file.parent.name not in overlays:
            overlays[file.parent.name] = parse_yaml(file.read_text(encoding="utf-8"))


def _check_overlay(place: Place, name: Any, overlay: Any, base: Values, schema: Values) -> None:
    if not isinstance(name, str) or not ENV_NAME.fullmatch(name):
        raise ConfigError(f"{place.of(['environments'])}: {name!r} is not an environment name")
    if overlay is not None and not isinstance(overlay, dict):
        raise ConfigError(f"{place.of(['environments', name])}: must be a mapping", HINT)
    if "environments" in (overlay or {}):
        nested = place.of(["environments", name, "environments"])
        raise ConfigError(f"{nested}: an environment cannot contain others", "move them one level up")
    # Every overlay is checked, not only the chosen one: a slip in production shows while working on staging.
    _validate(place, _merge(base, overlay or {}), schema, ["environments", name])


def _known(overlays: Values) -> str:
    return "environments: " + ", ".join(sorted({"local", *overlays}))


def _override(values: Values, schema: Values, environ: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """Set what variables set. Returns them: key → name of the variable."""
    known = {PREFIX + "_".join(path).upper(): (path, sub) for path, sub in leaves(schema)}
    used = {}
    for variable in sorted(name for name in environ if f"{name}_".startswith(PREFIX)):
        if variable not in known:
            near = difflib.get_close_matches(variable, known, 1, 0.5)
            raise ConfigError(
                f"{variable}: no such setting" + (f"; did you mean {near[0]}?" if near else ""), HINT
            )
        path, sub = known[variable]
        node = values
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = _cast(variable, environ[variable], sub)
        used[path] = variable
    return used


def _cast(variable: str, text: str, schema: Values) -> Any:
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # how Python reads bytes that are no UTF-8
        raise ConfigError(f"{variable}: not UTF-8", "set it to text in UTF-8")
    kinds = schema.get("type", "string")
    if kinds == "string" or (isinstance(kinds, list) and "string" in kinds and text):
        return text
    try:
        value = yaml.safe_load(text)
        json.dumps(value, default=str)  # refuses what contains itself
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError):
        raise ConfigError(f"{variable}: not a value of type {kinds}", HINT) from None
    return value


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
