"""JSON Schema with strict patterns: `$` matches only the end of the text, never before a last line break, an integer has no point, a number is finite. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """An ECMA 262 pattern (JSON Schema core, 6.4) for Python, whose `$` also matches before a last line break."""
    whole = re.sub(
        r"\\.|\[(?:\\.|[^\]\\])*\]|\$", lambda found: r"\Z" if found[0] == "$" else found[0], pattern
    )
    return re.compile(whole)


def _pattern(
    validator: Any, pattern: str, instance: Any, _schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not compiled(pattern).search(instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _integer(_: Any, instance: Any) -> bool:
    """JSON has one kind of number, so 90.0 is an integer to JSON Schema; ours end in files that want 90."""
    return isinstance(instance, int) and not isinstance(instance, bool)


def _number(_: Any, instance: Any) -> bool:
    """YAML has .nan and .inf, which no bound refuses and JSON cannot say."""
    return isinstance(instance, int | float) and not isinstance(instance, bool) and math.isfinite(instance)


Validator: Any = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {"pattern": _pattern},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many({"integer": _integer, "number": _number}),
)
