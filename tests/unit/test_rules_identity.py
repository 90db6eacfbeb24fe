"""Services are told apart by stack and service: `prefect-x` is another stack than `prefect`."""

from __future__ import annotations

from pathlib import Path

from prefect_platform.environment.opened import Platform
from prefect_platform.planning import diff
from prefect_platform.planning.bundle import Bundle
from prefect_platform.targets.compose import observe
from tasks import _context

from .rules import FakeHost, container, stack

STACKS = {name: stack(name) for name in ("prefect", "prefect-x")}
FOUND = (
    container("prefect", "server"),
    container("prefect", "coworker-api"),
    container("prefect-x", "server"),
    container("prefect-x", "worker"),
)


def _platform(fake: FakeHost) -> Platform:
    fake.containers(*FOUND)
    return Platform(fake.target.settings, STACKS, fake.target, fake.said.append)


def test_tasks_of_a_stack_mean_its_own_services(fake: FakeHost) -> None:
    platform = _platform(fake)
    assert _context.services(platform, "prefect", "") == ["prefect-coworker-api", "prefect-server"]
    assert _context.services(platform, "prefect-x", "") == ["prefect-x-server", "prefect-x-worker"]
    assert _context.services(platform, "prefect-x", "server") == ["prefect-x-server"]
    # Of another stack, when this one has none of the name.
    assert _context.services(platform, "prefect", "worker") == ["prefect-x-worker"]


def test_stopping_one_leaves_the_other(fake: FakeHost) -> None:
    platform = _platform(fake)
    platform.target.stop(_context.services(platform, "prefect", ""))
    assert fake.docker() == ["docker stop platform-prefect-coworker-api-lab platform-prefect-server-lab"]


def test_a_setup_of_one_does_not_stop_what_is_left_of_the_other(fake: FakeHost) -> None:
    running = {
        f"{name}-gone": diff.Running(name, "RUNNING", 1, None, "") for name in ("prefect", "prefect-x")
    }
    seen = diff.Observed(True, {}, running, {}, {})
    steps = diff.make([Bundle(STACKS["prefect"], {}, (), None)], seen).steps
    assert [(step.action, step.subject) for step in steps] == [("stop", "prefect-gone")]


def test_a_container_is_observed_as_its_stack_s(fake: FakeHost) -> None:
    fake.containers(FOUND[2])
    bundle = Bundle(STACKS["prefect-x"], {}, (), None)
    assert observe.observe(fake.site, [bundle]).running["prefect-x-server"].stack == "prefect-x"


def test_a_stack_s_folder_is_no_pattern(tmp_path: Path, fake: FakeHost) -> None:
    fake.release("prefect-x", "20260101T000000Z-a")
    assert fake.target.established() == ["prefect-x"]
