"""In which order services stop: whole command lines."""

from __future__ import annotations

from .rules import FakeHost, container

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
