"""In which order services stop: whole command lines."""

from __future__ import annotations

from prefect_platform.environment import access
from prefect_platform.environment.opened import Platform

from .rules import FakeHost, container, stack

AFTER = "com.docker.compose.depends_on"
WORKER = container("prefect", "a-worker") | {"Id": "w"}
WORKER["Config"]["StopTimeout"] = 375
WORKER["Config"]["Labels"][AFTER] = "server:service_started:false"
FOUND = (
    container("gateway", "verifier"),
    container("postgres", "postgres", "platform-postgres-lab"),
    container("postgres", "vault-agent"),
    container("prefect", "server"),
    container("prefect", "services"),
    container("prefect", "vault-agent"),
    container("redis", "redis", "platform-redis-lab"),
    WORKER,
)


def test_dependents_before_what_they_depend_on(fake: FakeHost) -> None:
    fake.containers(*FOUND)
    fake.target.stop(())
    assert fake.docker() == [
        "docker stop platform-prefect-a-worker-lab",
        "docker stop platform-prefect-server-lab platform-prefect-services-lab",
        "docker stop platform-prefect-vault-agent-lab",
        "docker stop platform-gateway-verifier-lab",
        "docker stop platform-postgres-lab",
        "docker stop platform-postgres-vault-agent-lab platform-redis-lab",
    ]
    # As long as its runs may take.
    assert [call.seconds for call in fake.runner.calls if "stop" in call.words][:2] == [435, 70]
    assert fake.said[0] == "stopping prefect-a-worker"


def test_restarts_keep_the_same_order_one_after_another(fake: FakeHost) -> None:
    fake.containers(*FOUND)
    fake.target.restart(["prefect-server", "prefect-a-worker"])
    assert fake.docker() == [
        "docker restart platform-prefect-a-worker-lab",
        "docker restart platform-prefect-server-lab",
    ]


def test_nothing_to_stop_is_said(fake: FakeHost) -> None:
    fake.containers()
    fake.target.stop(())
    assert fake.docker() == []
    assert fake.said == ["environment 'lab' is not running"]


def test_what_a_host_shares_does_not_make_an_environment_a_running_one(fake: FakeHost) -> None:
    stacks = {
        name: stack(name, scope=scope) for name, scope in (("traefik", "host"), ("prefect", "environment"))
    }
    platform = Platform(fake.target.settings, stacks, fake.target, fake.said.append)
    proxy, server = container("traefik", "gateway", env="host"), container("prefect", "server")
    ended = container("prefect", "server", Status="exited", Running=False)
    for found, runs in (((), False), ((proxy,), False), ((proxy, ended), False), ((proxy, server), True)):
        fake.containers(*found)
        assert access.runs(platform) == runs
