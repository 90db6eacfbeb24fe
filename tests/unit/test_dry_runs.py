"""What only looks leaves nothing behind: neither on the host nor beside the clone, in an environment that nobody has set up."""

from __future__ import annotations

from pathlib import Path

from prefect_platform.config import stack
from prefect_platform.environment.opened import Platform
from prefect_platform.operations import deploy
from tasks import _output

from .conftest import ROOT
from .rules import FakeHost


def _platform(fake: FakeHost, state: Path) -> Platform:
    settings = fake.target.settings
    settings.values["state"] = str(state)
    there = stack.for_target(stack.read_all(ROOT), settings.traits)
    stacks = {name: each.as_set(settings.values[each.section]) for name, each in there.items()}
    return Platform(settings, stacks, fake.target, fake.said.append)


def test_a_plan_of_all_stacks_leaves_nothing(fake: FakeHost, tmp_path: Path) -> None:
    fake.runner.answer("docker", "exec")
    before = {*tmp_path.rglob("*")}
    plans = dict(deploy.plan_environment(_platform(fake, tmp_path / "state")))
    assert all(plan.steps for plan in plans.values())
    assert {*tmp_path.rglob("*")} == before


def test_to_stop_what_nobody_set_up_leaves_no_lock(fake: FakeHost, tmp_path: Path) -> None:
    before = {*tmp_path.rglob("*")}
    _output.stop(_platform(fake, tmp_path / "state"), "")
    assert {*tmp_path.rglob("*")} == before
