"""The tests themselves: what they share is in helper modules, never in another test."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from .conftest import ROOT


def imported_tests(text: str) -> list[str]:
    """Lines that import a test's module, or something out of one."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module or ''}.{alias.name}" for alias in node.names]
        else:
            continue
        parts = {part for name in names for part in name.split(".")}
        if any(part.startswith("test_") for part in parts):
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


def _files() -> list[Path]:
    return [file for folder in ("tests", "bench") for file in sorted((ROOT / folder).rglob("*.py"))]


def test_no_test_imports_another() -> None:
    found = {str(file.relative_to(ROOT)): imported_tests(file.read_text()) for file in _files()}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "text",
    [
        "from .test_vps import wait_for",
        "from tests.local.test_doors import test_a_good_token_is_let_in",
        "from . import test_vps",
        "import tests.local.test_client as other",
    ],
)
def test_an_import_of_a_test_is_found(text: str) -> None:
    assert imported_tests(text)
