"""Settings hold no password: they are rendered into files, plans and images that others read. Pure.

Checked before any other rule, and no message quotes a value: what is refused must not be printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from prefect_platform.errors import ConfigError

Path = tuple[str | int, ...]

# `//user:password@`. Also a password that holds / ? or #, which RFC 3986 would take for the end of the host.
_USERINFO = re.compile(r"//[^/?#@\s]*:[^\n]*@")
# The same without a scheme, or after one slash. An image's digest is none.
_BARE_USERINFO = re.compile(r"(?:\S*/)?[^/@\s:]*:[^/@\s]+@(?!sha256:)\S*")
_NAME = r"(?:pass(?:word|wd|phrase)?|pwd|pin|secret|token|api[_-]?key|access[_-]?key|secret[_-]?key)"
_PARAMETER = re.compile(rf"(?i)(?<![a-z0-9])(?:[a-z0-9]+[_-])*(?:ssl)?{_NAME}\s*=\s*[^\s&]")
_KEY = re.compile(rf"(?i)(?:.*[_-])?{_NAME}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def holds_password(text: str) -> bool:
    """Whether a text is (or contains) a URL with a password, or a `password=` of a query or a connection string, however it is encoded."""
    read = unquote(unquote(text)).replace("\\", "/")
    return bool(_USERINFO.search(read) or _BARE_USERINFO.fullmatch(read) or _PARAMETER.search(read))


def passwords(
    values: Any, schema: Mapping[str, Any], path: Path = ()
) -> Iterator[tuple[Path, tuple[str, str]]]:
    """Every place that contains a password, with (stack, variable) of the secret that takes it (empty when none does); without a
    stack, the setting that names a file for it.
    """
    for where, value, taker in _strings(values, schema, path, ("", "")):
        # A key of a free mapping (a seal's attributes) may name a credential; those of ours are names of files.
        free = bool(where) and isinstance(where[-1], str) and not _declared(schema, where[len(path) :])
        if holds_password(value) or (free and value and _KEY.fullmatch(str(where[-1]))):
            yield where, taker


def refusal(place: str, taker: tuple[str, str], env: str) -> ConfigError:
    """The error for a place that contains a password. It names the command that stores it."""
    stack, variable = taker
    hint = "take it out: settings are shown in plans and written to files that others may read"
    if variable and not stack:
        hint = f"remove it; put it into the file that {variable} names, as the variable that the service's clients read"
    elif variable:
        where = f" --env {env}" if env else ""
        hint = (
            "remove it; set it once, it is stored with the secrets: "
            f"read -rs {variable}; export {variable}; ./invoke {stack}.setup{where}"
        )
    return ConfigError(f"{place}: holds a password, which no setting may", hint)


def control_characters(values: Any, schema: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:
    """Every string with a line break or another control character. `x-lines: true` in its schema allows both."""
    for where, value, _ in _strings(values, schema, path, ("", "")):
        lines = (_declared(schema, where[len(path) :]) or {}).get("x-lines")
        if not lines and _CONTROL.search(value):
            yield where


def _strings(
    values: Any, schema: Mapping[str, Any], path: Path, taker: tuple[str, str]
) -> Iterator[tuple[Path, str, tuple[str, str]]]:
    taker = schema.get("x-given", taker)
    if isinstance(values, str):
        yield path, values, taker
    elif isinstance(values, Mapping):
        for key, value in values.items():
            if holds_password(str(key)):
                yield path, str(key), taker
            yield from _strings(value, schema.get("properties", {}).get(key, {}), (*path, str(key)), taker)
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from _strings(value, schema.get("items", {}), (*path, index), taker)


def _declared(schema: Mapping[str, Any], path: Path) -> Mapping[str, Any] | None:
    """The schema of a place; None for a key that none declares."""
    found: Mapping[str, Any] | None = schema
    for part in path:
        if found is None:
            return None
        found = found.get("items") if isinstance(part, int) else found.get("properties", {}).get(part)
    return found
