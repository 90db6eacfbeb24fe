"""Invoke's configuration (invoke.yaml, ~/.invoke.yaml, -f FILE, INVOKE_… variables) with errors that name the file or variable.

A duplicate key in one mapping is an error here; Invoke would silently take the last one. INVOKE_PLATFORM_… variables are left
to `settings.load`, which knows every key of the platform, also those that no file mentions.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from invoke.config import AmbiguousMergeError, Config
from invoke.exceptions import UnknownFileType
from invoke.vendor import yaml

from prefect_platform.errors import ConfigError

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "", "false", "no", "off")
_OURS = "PLATFORM_"


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # Invoke's copy of PyYAML carries no types
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key {key.value!r}", key.start_mark
                )
            seen.add(key.value)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


class PlatformConfig(Config):
    """Invoke's Config; every error of a file or a variable is a ConfigError."""

    def _load_yaml(self, path: os.PathLike[str]) -> dict[str, Any]:
        text = _read(path)
        try:
            return _mapping(path, yaml.load(text, _Loader))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = f"{path}, line {mark.line + 1}" if mark else f"{path}"
            raise ConfigError(
                f"{place}: invalid YAML: {getattr(error, 'problem', None) or error}",
                "correct the line; invoke.example.yaml shows every key",
            ) from error

    _load_yml = _load_yaml

    def _load_json(self, path: os.PathLike[str]) -> dict[str, Any]:
        try:
            return _mapping(path, json.loads(_read(path)))
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path}, line {error.lineno}: invalid JSON: {error.msg}") from error

    def _load_file(self, prefix: str, absolute: bool = False, merge: bool = True) -> None:
        try:
            super()._load_file(prefix, absolute, merge)
        except UnknownFileType as error:
            raise ConfigError(f"-f: {error}") from error
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ConfigError(
                f"{error.filename}: {error.strerror}", "make the settings file readable for this user"
            ) from error

    def merge(self) -> None:
        try:
            super().merge()
        except AmbiguousMergeError as error:
            levels = (
                self._defaults,
                self._collection,
                self._system,
                self._user,
                self._project,
                self._runtime,
            )
            raise ConfigError(
                f"settings: {_clash(levels) or error}: a mapping in one file, a single value in another",
                "compare invoke.yaml, ~/.invoke.yaml and the file given with -f with invoke.example.yaml",
            ) from error

    def files(self) -> list[Path]:
        """The files that were read, the one that overrides the others first."""
        levels = (
            (self._runtime_found, self._runtime_path),
            (self._project_found, self._project_path),
            (self._user_found, self._user_path),
            (self._system_found, self._system_path),
        )
        return [Path(path) for found, path in levels if found and path]

    def require_known_keys(self, known: Iterable[str]) -> None:
        """Refuse a misspelt `platform:`, which Invoke would ignore: every setting would be back at its default.

        The clone's own file and one given with -f may have no other keys than Invoke's and `known`; files for all projects may.
        """
        allowed = {"platform", *self.global_defaults(), *known}
        ours = {self._runtime_path, self._project_path} - {None}
        for path in self.files():
            for key in _top_level(path):
                near = next(iter(difflib.get_close_matches(key, sorted(allowed), 1, 0.6)), "")
                if key in allowed or (str(path) not in map(str, ours) and near != "platform"):
                    continue
                line = _line(path, key)
                place = f"{_shown(path, self._project_path)}{f':{line}' if line else ''}: {key}"
                raise ConfigError(
                    f"{place}: unknown key; "
                    + (f"did you mean {near!r}?" if near else "settings are under `platform:`"),
                    "invoke.example.yaml explains every key",
                )

    def require_runtime_file(self) -> None:
        """A file given with -f or INVOKE_RUNTIME_CONFIG must exist; Invoke would continue without it."""
        if self._runtime_path is not None and not self._runtime_found:
            raise ConfigError(f"{self._runtime_path}: no such settings file", "check the path given with -f")

    def load_shell_env(self) -> None:
        # The level is emptied first: its own values of last time must not count as settings that exist.
        self._set(_env={})
        self.merge()
        self._set(_env=environment_level(self._config, os.environ))
        self.merge()


def files_of(config: Any) -> list[Path]:
    """The settings files behind a task's configuration, the one that overrides the others first."""
    return config.files() if isinstance(config, PlatformConfig) else []


def _top_level(path: Path) -> list[str]:
    """The keys of a file that was read before, and is valid."""
    if path.suffix not in (".yaml", ".yml", ".json"):
        return []
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [str(key) for key in data] if isinstance(data, dict) else []


def _line(path: Path, key: str) -> int:
    """JSON is YAML as far as this is concerned."""
    node = yaml.compose(path.read_text(encoding="utf-8"))
    return next((each.start_mark.line + 1 for each, _ in node.value if each.value == key), 0)


def _shown(path: Path, project: str | None) -> str:
    """The clone's own file by its name alone, as all our texts call it."""
    return path.name if project and path == Path(project) else str(path)


def _read(path: os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 (byte {error.start})", "save the file as UTF-8") from error


def _mapping(path: os.PathLike[str], data: Any) -> dict[str, Any]:
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, found {type(data).__name__}")
    return data


def _clash(levels: Iterable[Mapping[str, Any]]) -> str:
    """The dotted name of the first setting that is a group on one level and a value on another."""
    kinds: dict[str, bool] = {}
    for level in levels:
        for name, is_group in _kinds(level, ""):
            if kinds.setdefault(name, is_group) != is_group:
                return name
    return ""


def _kinds(group: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, bool]]:
    for key, value in group.items():
        yield f"{prefix}{key}", isinstance(value, Mapping)
        if isinstance(value, Mapping):
            yield from _kinds(value, f"{prefix}{key}.")


def environment_level(config: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The nested settings that INVOKE_… variables give, cast to the type of the setting they replace."""
    paths: dict[str, list[tuple[str, ...]]] = {}
    for path in _leaves(config, ()):
        paths.setdefault("_".join(path).upper(), []).append(path)
    level: dict[str, Any] = {}
    for variable, text in environ.items():
        name = variable.removeprefix("INVOKE_")
        _check_spelling(variable, name, paths)
        if name == variable or name.startswith(_OURS) or name not in paths:
            continue
        path = _only_path(variable, paths[name])
        place = level
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = _cast(variable, text, _value(config, path))
    return level


def _check_spelling(variable: str, name: str, known: Iterable[str]) -> None:
    """Refuse INVOKE_PLATFROM_…, which would be ignored. Raises ConfigError."""
    first, _, rest = name.partition("_")
    if name == variable or name in known or not rest or f"{first}_" == _OURS:
        return
    if difflib.get_close_matches(f"{first}_", [_OURS], 1, 0.75):
        raise ConfigError(f"{variable}: no such setting; did you mean INVOKE_{_OURS}{rest}?")


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not isinstance(value, Mapping):
        yield path
        return
    for key, inner in value.items():
        if isinstance(key, str):  # a variable's name cannot say any other key
            yield from _leaves(inner, (*path, key))


def _value(config: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = config
    for key in path:
        value = value[key]
    return value


def _only_path(variable: str, paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    if len(paths) > 1:
        both = " and ".join(".".join(path) for path in paths)
        raise ConfigError(f"{variable}: ambiguous: {both}", "set it in invoke.yaml instead")
    return paths[0]


def _cast(variable: str, text: str, old: Any) -> Any:
    if old is None or isinstance(old, str):
        return text
    if isinstance(old, bool):
        if text.lower() not in (*_TRUE, *_FALSE):
            raise ConfigError(f"{variable}: must be true or false, is {text!r}")
        return text.lower() in _TRUE
    if isinstance(old, (int, float)):
        try:
            return type(old)(text)
        except ValueError as error:
            raise ConfigError(f"{variable}: must be a number, is {text!r}") from error
    raise ConfigError(
        f"{variable}: a variable cannot set a list",
        "set it in invoke.yaml, or in a file given with -f",
    )
