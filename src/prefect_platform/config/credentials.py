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

# `//user:password@`, the colon encoded or not. Also a password that holds / ? or #, which RFC 3986 would take for the end of the host.
_USERINFO = re.compile(r"(?i)//[^/?#@\s]*(?::|%(?:25)*3a)[^\n]*@")
# The same without a scheme, or after one slash. An image's digest is none.
_BARE_USERINFO = re.compile(r"(?:\S*/)?[^/\s:]*:[^/@\s]+@(?!sha256:)\S*")
_AUTHORITY = re.compile(r"//([^/?#\s]*)")
# Words that name a credential at the end of any name; those too short for that stand alone, or behind a dash or a capital.
_LONG = r"pass(?:word|wd|phrase)|pwd|secret|token|(?:api|access|secret|private|encryption)[_-]?key"
_PARAMETER = re.compile(
    rf"(?:(?i:{_LONG})|(?<![A-Za-z0-9])(?i:(?:ssl)?pass|pin)|(?<=[a-z0-9])(?:Pass|Pin))[\[\]]*\s*=\s*[^\s&]"
)
_KEY = re.compile(rf"(?i)(?:.*[_-])?(?:{_LONG}|pass|pin)")
# Of a seal: the key itself, which may instead be read from a file or a variable.
_KEY_MATERIAL = re.compile(r"(?i)key|(?:current|previous)_key")
_REFERENCE = re.compile(r"(?:file|env)://")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def holds_password(text: str) -> bool:
    """Whether a text is (or contains) a URL with a password, or a `password=` of a query or a connection string, however it is encoded.

    The text as it is decides first, as a URL is split before its parts are decoded: a decoded `@` or line break would hide the rest.
    """
    once = unquote(text)
    return any(_holds(each.replace("\\", "/")) for each in (text, once, unquote(once)))


def _holds(text: str) -> bool:
    authorities = (found[1].rpartition("@")[0] for found in _AUTHORITY.finditer(text))
    return (
        any(":" in unquote(unquote(user)) for user in authorities)
        or bool(_USERINFO.search(text) or _BARE_USERINFO.fullmatch(text))
        or bool(_PARAMETER.search(text))
    )


def passwords(
    values: Any, schema: Mapping[str, Any], path: Path = ()
) -> Iterator[tuple[Path, tuple[str, str]]]:
    """Every place that contains a password, with (stack, variable) of the secret that takes it (empty when none does); without a
    stack, the setting that names a file for it.
    """
    for where, value, taker in _scalars(values, schema, path, ("", "")):
        inside = where[len(path) :]
        # Keys of a free mapping (a seal's attributes) may name a credential; those of ours are names of files.
        free = [
            str(key)
            for length, key in enumerate(inside, 1)
            if isinstance(key, str) and not _declared(schema, inside[:length])
        ]
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        if holds_password(text) or (text and any(_names_credential(key, text) for key in free)):
            yield where, taker


def _names_credential(key: str, value: str) -> bool:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
    return bool(_KEY.fullmatch(words) or (_KEY_MATERIAL.fullmatch(words) and not _REFERENCE.match(value)))


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
    for where, value, _ in _scalars(values, schema, path, ("", "")):
        lines = (_declared(schema, where[len(path) :]) or {}).get("x-lines")
        if isinstance(value, str) and not lines and _CONTROL.search(value):
            yield where


def _scalars(
    values: Any, schema: Mapping[str, Any], path: Path, taker: tuple[str, str]
) -> Iterator[tuple[Path, Any, tuple[str, str]]]:
    """Every value that is no group, also a number: a PIN is one. A switch or nothing holds no password."""
    taker = schema.get("x-given", taker)
    if isinstance(values, Mapping):
        for key, value in values.items():
            if holds_password(str(key)):
                yield path, str(key), taker
            yield from _scalars(value, schema.get("properties", {}).get(key, {}), (*path, str(key)), taker)
    elif isinstance(values, list | tuple | set):
        for index, value in enumerate(values):
            yield from _scalars(value, schema.get("items", {}), (*path, index), taker)
    elif values is not None and not isinstance(values, bool):
        yield path, values, taker


def _declared(schema: Mapping[str, Any], path: Path) -> Mapping[str, Any] | None:
    """The schema of a place; None for a key that none declares."""
    found: Mapping[str, Any] | None = schema
    for part in path:
        if found is None:
            return None
        found = found.get("items") if isinstance(part, int) else found.get("properties", {}).get(part)
    return found
