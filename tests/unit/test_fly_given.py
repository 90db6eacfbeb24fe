"""Target fly: a secret given in the environment of a command is in the plan, and nothing is written for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from prefect_platform.config.stack import SecretSpec
from prefect_platform.environment.opened import open_platform
from prefect_platform.errors import PreflightError
from prefect_platform.planning.bundle import Bundle
from prefect_platform.targets.fly.target import Target

from .conftest import ROOT
from .rules import stack

GIVEN = "TEST_FLY_GIVEN"
STACK = replace(stack("x"), secrets=(SecretSpec(GIVEN, "", given="url"),))
ANSWERS = {
    "status": {},
    "machine list": [{"id": "m1", "image_ref": {"registry": "r", "repository": "my-app", "tag": "t"}}],
    "volumes list": [{"id": "v1", "name": "data", "state": "created", "region": "ams"}],
    "secrets list": [{"name": GIVEN, "digest": "d", "status": "Deployed"}],
}
Open = Callable[[], Target]


@pytest.fixture
def fly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """An app with a machine and the secret, as a program `flyctl` tells of it."""
    cases = "\n".join(f"'{words}'*) echo '{json.dumps(answer)}';;" for words, answer in ANSWERS.items())
    program = tmp_path / "bin" / "flyctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}\nesac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    raw = {
        "state": str(tmp_path / "state"),
        "environments": {"f": {"target": "fly", "fly": {"app": "my-app", "region": "ams"}}},
    }

    def opened() -> Target:
        target = open_platform(ROOT, raw, "f", {}, print).target
        assert isinstance(target, Target)
        return target

    return opened


def _imports(target: Target) -> list[str]:
    seen = target.observe([Bundle(STACK, {}, (), None)])
    return [f"{step.subject}: {step.cause}" for step in seen.more if step.action == "import"]


def test_a_changed_given_secret_is_imported_in_the_plan(fly: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    target = fly()
    target.store.merge("x", {GIVEN: "first"})
    target.applying.imported.remember({GIVEN: "first"}, target.fly.secrets())
    assert _imports(target) == []
    monkeypatch.setenv(GIVEN, "first")
    assert _imports(target) == []
    monkeypatch.setenv(GIVEN, "second")
    assert _imports(target) == [f"secret {GIVEN}: changed"]
    assert target.store.read("x")[GIVEN].value == "first"


def test_a_given_secret_is_not_lost_with_the_clone(fly: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PreflightError, match=f"has {GIVEN} already, which this clone lacks"):
        _imports(fly())
    monkeypatch.setenv(GIVEN, "typed once more")
    assert _imports(fly()) == [f"secret {GIVEN}: changed"]
