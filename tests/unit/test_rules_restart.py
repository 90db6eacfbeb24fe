"""A restart ends when what was restarted is ready, or with exit code 5 and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from prefect_platform.environment.opened import Platform
from prefect_platform.errors import CheckFailed
from prefect_platform.operations.restart import restart

from .rules import FakeHost, container

FAILED_PROBE = {"Log": [{"ExitCode": 1, "Output": "NOAUTH"}]}


@pytest.fixture
def platform(fake: FakeHost) -> Platform:
    fake.runner.answer("docker", "logs", out="a line of its log")
    return Platform(fake.target.settings, {}, fake.target, fake.said.append)


def _redis(fake: FakeHost, **health: Any) -> None:
    fake.containers(
        container("redis", "redis", Health=health), container("postgres", "postgres", Status="exited")
    )


def test_it_returns_when_what_was_restarted_is_healthy_whatever_else_is_not(
    platform: Platform, fake: FakeHost
) -> None:
    _redis(fake, Status="healthy")
    restart(platform, ["redis-redis"], 0)
    assert fake.docker() == ["docker restart platform-redis-redis-lab"]
    assert fake.said[-1] == "ready: redis-redis"


@pytest.mark.parametrize(
    ("health", "says"),
    [
        ({"Status": "starting"}, "redis-redis: still starting"),
        ({"Status": "unhealthy", **FAILED_PROBE}, "redis-redis: UNHEALTHY: last probe: NOAUTH"),
    ],
)
def test_what_is_not_ready_in_time_is_said_with_exit_code_5(
    platform: Platform, fake: FakeHost, health: dict[str, Any], says: str
) -> None:
    _redis(fake, **health)
    with pytest.raises(CheckFailed, match=f"restarted, but not ready: {says}") as failed:
        restart(platform, ["redis-redis"], 0)
    assert failed.value.hint == "./invoke redis.logs --service redis"


def test_what_is_gone_after_its_restart_is_not_ready(platform: Platform, fake: FakeHost) -> None:
    fake.containers(container("postgres", "postgres"))
    with pytest.raises(CheckFailed, match="redis-redis: is gone"):
        restart(platform, ["redis-redis"], 0)
