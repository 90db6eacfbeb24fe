"""INVOKE_PLATFORM_… variables: each sets one key of the settings. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

import yaml

from prefect_platform.errors import ConfigError

Values = dict[str, Any]
PREFIX = "INVOKE_PLATFORM_"
HINT = "invoke.example.yaml explains every key"


def override(
    values: Values, known: Mapping[str, tuple[tuple[str, ...], Values]], environ: Mapping[str, str]
) -> dict[tuple[str, ...], str]:
    """Set what variables set; `known` is every variable's key, with its schema. Returns those used: key → name of the variable."""
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
