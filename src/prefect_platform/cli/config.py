"""Invoke's configuration (invoke.yaml, ~/.invoke.yaml, -f FILE, INVOKE_… variables) with errors that name the file or variable.

A duplicate key in one mapping is an error here; Invoke would silently take the last one. INVOKE_PLATFORM_… variables are left
to `settings.load`, which knows every key of the platform, also those that no file mentions.
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from invoke.config import AmbiguousMergeError, Config
from invoke.exceptions import UnknownFileType

from prefect_platform.errors import ConfigError

from . import settings_file

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "", "false", "no", "off")
_OURS = "PLATFORM_"
_EXPLAINED = "invoke.example.yaml explains every key"


class PlatformConfig(Config):
    """Invoke's Config; every error of a file or a variable is a ConfigError."""

    def _load_yaml(self, path: os.PathLike[str]) -> dict[str, Any]:
        return settings_file.read_yaml(Path(path), self._name(Path(path)))

    _load_yml = _load_yaml

    def _load_json(self, path: os.PathLike[str]) -> dict[str, Any]:
        return settings_file.read_json(Path(path), self._name(Path(path)))

    def _load_py(self, path: str) -> dict[str, Any]:
        return settings_file.guarded_python(path, self._name(Path(path)), super()._load_py)

    def _load_file(self, prefix: str, absolute: bool = False, merge: bool = True) -> None:
        try:
            super()._load_file(prefix, absolute, merge)
        except UnknownFileType as error:
            raise ConfigError(f"-f: {error}") from error
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ConfigError(
                f"{self._name(Path(error.filename))}: {error.strerror}",
                "make the settings file readable for this user",
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

    def _levels(self) -> list[tuple[Path, Mapping[str, Any]]]:
        """The files that were read and what they contain, the one that overrides the others first."""
        levels = (
            (self._runtime_found, self._runtime_path, self._runtime),
            (self._project_found, self._project_path, self._project),
            (self._user_found, self._user_path, self._user),
            (self._system_found, self._system_path, self._system),
        )
        return [(Path(path), values) for found, path, values in levels if found and path]

    def files(self) -> list[Path]:
        """The files that were read, the one that overrides the others first."""
        return [path for path, _ in self._levels()]

    def require_known_keys(self, known: Iterable[str]) -> None:
        """Refuse a misspelt `platform:`, which Invoke would ignore: every setting would be back at its default; and one that is no mapping.

        The clone's own file and one given with -f may have no other keys than Invoke's and `known`; files for all projects may.
        """
        allowed = {"platform", *self.global_defaults(), *known}
        ours = {self._runtime_path, self._project_path} - {None}
        for path, values in self._levels():
            platform = values.get("platform")
            if not (platform is None or isinstance(platform, dict)):
                raise ConfigError(
                    f"{self._place(path, 'platform')}: must be a mapping of settings", _EXPLAINED
                )
            for key in map(str, values if path.suffix != ".py" else ()):
                near = next(iter(difflib.get_close_matches(key, sorted(allowed), 1, 0.6)), "")
                if key in allowed or (str(path) not in map(str, ours) and near != "platform"):
                    continue
                raise ConfigError(
                    f"{self._place(path, key)}: unknown key; "
                    + (f"did you mean {near!r}?" if near else "settings are under `platform:`"),
                    _EXPLAINED,
                )

    def require_executor(self) -> None:
        """A class of one's own that runs tasks (Invoke's setting) must exist."""
        name = self.tasks.executor_class
        try:
            if name is not None:
                module, _, attribute = name.rpartition(".")
                getattr(importlib.import_module(module), attribute)
        except (AttributeError, ImportError, ValueError):
            keys = ("tasks", "executor_class")
            place = next(
                (self._place(path, *keys) for path in self.files() if settings_file.line(path, *keys)), ""
            )
            raise ConfigError(
                f"{place or '.'.join(keys)}: {name!r}: no such class", "remove it, or name MODULE.CLASS"
            ) from None

    def _name(self, path: Path) -> str:
        """The clone's own file by its name alone, as all our texts call it."""
        prefix = self._project_prefix
        return path.name if prefix and path.with_suffix("") == Path(f"{prefix}invoke") else str(path)

    def _place(self, path: Path, *keys: str) -> str:
        """`invoke.yaml:3: platform`."""
        name = self._name(path)
        line = settings_file.line(path, *keys)
        return f"{name}{f':{line}' if line else ''}: {'.'.join(keys)}"

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
        if variable == "INVOKE_PLATFORM":
            raise ConfigError(
                f"{variable}: no such setting; a variable sets one key: INVOKE_{_OURS}STATE", _EXPLAINED
            )
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
