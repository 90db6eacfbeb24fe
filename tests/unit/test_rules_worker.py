"""The names of workers' containers, and how an installation gets there."""

from __future__ import annotations

from prefect_platform.config import stack
from prefect_platform.planning import diff, render
from prefect_platform.planning.bundle import Bundle
from prefect_platform.targets.compose.traits import TRAITS

from .conftest import ROOT
from .rules import FakeHost, container


def _bundle(fake: FakeHost, *workers: str) -> Bundle:
    declared = stack.for_target(stack.read_all(ROOT), TRAITS)["prefect"]
    site = fake.site
    site.settings.values["prefect"]["workers"] = [
        {
            "drain_seconds": None,
            "image": None,
            "memory": "1g",
            "poll_seconds": 2,
            "limit": 1,
            "pool": "default",
            "name": each,
        }
        for each in workers
    ]
    (bundle,) = fake.target.adapt([render.build(declared, site.settings, site.where())])
    return bundle


def _names(bundle: Bundle) -> dict[str, tuple[str, list[str]]]:
    """Worker in Prefect → its container, and its volumes."""
    found = {}
    for each in bundle.services:
        if "--name" in each.spec.get("command", ()):
            words = each.spec["command"]
            volumes = [name.partition(":")[0] for name in each.spec["volumes"]]
            found[words[words.index("--name") + 1]] = (each.spec["container_name"], volumes[:1])
    return found


def test_the_first_worker_bears_the_plain_name(fake: FakeHost) -> None:
    assert _names(_bundle(fake, "default")) == {
        "default": ("platform-prefect-worker-lab", ["worker-default"])
    }
    assert _names(_bundle(fake, "one", "two")) == {
        "one": ("platform-prefect-worker-lab", ["worker-one"]),
        "two": ("platform-prefect-worker-two-lab", ["worker-two"]),
    }


def test_an_installation_with_the_old_name_is_told_and_moves_over(fake: FakeHost) -> None:
    """The container of the old name is no longer part of the project: Compose stops it, in its grace period, and then starts the new one."""
    bundle = _bundle(fake, "default")
    old = container("prefect", "worker-default")
    old["Config"]["StopTimeout"] = 3675
    fake.containers(old)
    running = {"prefect-worker-default": diff.Running("prefect", "RUNNING", 1, None, "")}
    seen = diff.Observed(True, {}, running, {}, {})
    plan = diff.make([bundle], seen)
    changed = [(step.action, step.subject) for step in plan.steps if step.action in ("stop", "start")]
    assert changed[0] == ("stop", "prefect-worker-default")
    assert ("start", "prefect-worker") in changed
    fake.site.up(bundle.stack, "new", 240)
    (call,) = (each for each in fake.runner.calls if "up" in each.words)
    assert call.line.endswith("up -d --remove-orphans --wait --wait-timeout 240")
    # It is waited for as long as its runs may take.
    assert call.seconds >= 3675 + 240
