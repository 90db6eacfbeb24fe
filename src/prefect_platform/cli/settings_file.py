"""One settings file → its mapping. Whatever it contains is read, or refused as a ConfigError with file and line.

With Invoke's copy of PyYAML: `./invoke --list` must work before anything else is installed.
"""

from __future__ import annotations

import json
import os
import stat
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from invoke.vendor import yaml

from prefect_platform.errors import ConfigError

HINT = "correct the line; invoke.example.yaml shows every key"
_TAG = "tag:yaml.org,2002:"
_NOT_SETTINGS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # Invoke's copy of PyYAML carries no types
    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """PyYAML lets whatever int(), datetime() and its own tables raise through: `2020-13-45`, `!!int foo`, `0x_`."""
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, str):
                value.encode()  # refuses half of a surrogate pair, which no file can hold
            return value
        except _NOT_SETTINGS:
            kind = node.tag.removeprefix(_TAG)
            text = _short(node.value) if isinstance(node, yaml.ScalarNode) else "this"
            raise _problem(node, f"{text} is not a valid {kind}") from None


def read_yaml(path: Path, name: str) -> dict[str, Any]:
    """`name` is what errors call the file."""
    loader = None
    try:
        loader = _Loader(_text(path, name))
        node = loader.get_single_node()
        _check(node)
        data = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as error:
        raise _invalid(name, "YAML", error) from error
    except RecursionError:
        raise _too_deep(name, loader.line if loader is not None else 0) from None
    return mapping(name, data)


def read_json(path: Path, name: str) -> dict[str, Any]:
    text = _text(path, name)
    try:
        data = json.loads(text)
        json.dumps(data, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ConfigError(f"{name}:{error.lineno}: invalid JSON: {error.msg}", HINT) from error
    except ValueError as error:  # a number of thousands of digits, half of a surrogate pair
        raise ConfigError(f"{name}:1: invalid JSON: {str(error)[:200]}", HINT) from error
    except RecursionError:
        raise _too_deep(name, text[: _deepest(text)].count("\n")) from None
    try:
        _check(compose(path))
    except yaml.YAMLError as error:
        raise _invalid(name, "JSON", error) from error
    return mapping(name, data)


def guarded_python(path: str, name: str, read: Any) -> dict[str, Any]:
    """What Invoke's `read` takes from a Python file, with the file's own exceptions as ConfigError."""
    regular(Path(path), name)
    try:
        return dict(read(path))
    except Exception as error:
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path
        ]
        line = error.lineno if isinstance(error, SyntaxError) else next(iter(lines), None)
        place = f"{name}:{line}" if line else name
        raise ConfigError(f"{place}: {type(error).__name__}: {str(error)[:200]}", HINT) from error


def regular(path: Path, name: str) -> None:
    """Raises ConfigError for what is no regular file (a FIFO would be waited for), FileNotFoundError where there is nothing."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise ConfigError(
                f"{name}: a symlink to {os.readlink(path)}, which does not exist",
                "point it to your settings file, or remove it: cp invoke.example.yaml invoke.yaml begins a new one",
            ) from None
        raise
    if not stat.S_ISREG(mode):
        what = "is a folder, not a file" if stat.S_ISDIR(mode) else "not a regular file"
        raise ConfigError(
            f"{name}: {what}", "move it away; cp invoke.example.yaml invoke.yaml begins a settings file"
        )


def mapping(name: str, data: Any) -> dict[str, Any]:
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{name}: expected a mapping of settings, found {type(data).__name__}", HINT)
    return data


def compose(path: Path) -> Any:
    """The nodes of a YAML or JSON file. JSON is YAML but for its tabs."""
    text = _text(path)
    return yaml.compose(text.replace("\t", " ") if path.suffix == ".json" else text)


def line(path: Path, *keys: str) -> int:
    """The line of a key in a file that was read before; 0 if it is not there."""
    if path.suffix == ".py":
        return 0
    node, found = compose(path), 0
    for key in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        found, node = next(
            ((name.start_mark.line + 1, value) for name, value in pairs if name.value == key), (0, None)
        )
    return found


def _text(path: Path, name: str = "") -> str:
    name = name or str(path)
    regular(path, name)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: not UTF-8 (byte {error.start})", "save the file as UTF-8") from error


def _check(node: Any) -> None:
    """Refuse what would be ignored or never end. Keys are text at the top and below `platform`; those of other projects are theirs."""
    _walk(node, frozenset(), set(), "top")


def _walk(node: Any, above: frozenset[int], done: set[tuple[int, str]], part: str) -> None:
    """`part` is "top", "platform" or "others"; what was seen is not seen again, for aliases may multiply it without end."""
    if id(node) in above:
        raise _problem(node, "contains itself (an anchor and its alias)")
    if (id(node), part) in done or not isinstance(node, yaml.CollectionNode):
        return
    inside = above | {id(node)}
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _walk(each, inside, done, part if part == "platform" else "others")
    else:
        for key, value in _pairs(node, ours=part != "others"):
            ours = part == "platform" or (part == "top" and key.value == "platform")
            _walk(value, inside, done, "platform" if ours else "others")
    done.add((id(node), part))


def _pairs(node: Any, *, ours: bool) -> Iterator[tuple[Any, Any]]:
    seen: set[str] = set()
    for key, value in node.value:
        scalar = isinstance(key, yaml.ScalarNode)
        merges = key.tag == f"{_TAG}merge"
        if ours and not merges and key.tag != f"{_TAG}str":
            what = (
                f"key {_short(key.value)} is not text: put it in quotes"
                if scalar
                else "a key that is not text"
            )
            raise _problem(key, what)
        if scalar and not merges and key.value in seen:
            raise _problem(key, f"duplicate key {key.value!r}")
        if scalar:
            seen.add(key.value)
        yield key, value


def _problem(node: Any, text: str) -> Exception:
    error: Exception = yaml.constructor.ConstructorError(None, None, text, node.start_mark)
    return error


def _invalid(name: str, language: str, error: Any) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    place = f"{name}:{mark.line + 1}" if mark else name
    return ConfigError(f"{place}: invalid {language}: {getattr(error, 'problem', None) or error}", HINT)


def _too_deep(name: str, lines_before: int) -> ConfigError:
    return ConfigError(f"{name}:{lines_before + 1}: nested too deep", HINT)


def _deepest(text: str) -> int:
    """The position at which the most brackets are open. Brackets in strings count too: it only names a line."""
    depth = most = at = 0
    for number, letter in enumerate(text):
        depth += (letter in "[{") - (letter in "]}")
        if depth > most:
            most, at = depth, number
    return at


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
