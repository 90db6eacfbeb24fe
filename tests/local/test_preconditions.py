"""What must be true before setup touches anything, and which tasks a target has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import Clone

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def changed(platform: Clone) -> Iterator[Clone]:
    """The running platform, whose settings a test may change."""
    kept = {name: dict(section) for name, section in platform.settings.items()}
    yield platform
    platform.settings = kept
    platform.write()


def test_a_public_name_that_does_not_resolve_is_told_before_anything_is_touched(changed: Clone) -> None:
    before = changed.pids()
    changed.settings["gateway"]["public_url"] = "https://prefect.platform.invalid"
    changed.write()
    for command in ("prefect.setup", "prefect.plan", "platform.setup"):
        refused = changed.invoke(command, code=3)
        assert "platform.gateway.public_url: prefect.platform.invalid does not resolve" in refused.stderr
        assert "getent hosts" in refused.stderr
    changed.settings["gateway"].pop("public_url")
    changed.write()
    assert changed.pids() == before


@pytest.mark.parametrize("task", ["setup", "plan", "status", "logs", "restart", "stop", "remove", "releases"])
def test_a_stack_that_the_target_does_not_have_is_refused_alike_by_every_task(
    platform: Clone, task: str
) -> None:
    refused = platform.invoke(f"postgres.{task}", code=2)
    assert "target local has no stack 'postgres'" in refused.stderr
    assert refused.stdout == ""


def test_a_part_of_one_machine_is_not_removed_by_itself(platform: Clone) -> None:
    before = platform.pids()
    refused = platform.invoke("traefik.remove", "--data", "--yes", code=2)
    assert "traefik cannot be removed by itself" in refused.stderr
    assert "./invoke platform.remove" in refused.stderr
    assert platform.pids() == before


def test_stopping_a_part_stops_that_part_alone(platform: Clone) -> None:
    before = platform.pids()
    platform.invoke("traefik.stop")
    stopped = {
        check["name"] for check in platform.status()["checks"] if check["detail"].startswith("STOPPED")
    }
    assert stopped == {"traefik-listener", "traefik-gateway"}
    platform.invoke("prefect.setup")
    after = platform.pids()
    assert {name: pid for name, pid in after.items() if name not in stopped} == {
        name: pid for name, pid in before.items() if name not in stopped
    }
