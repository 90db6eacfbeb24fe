"""What removing a stack or an environment deletes, in which order, and what stays: whole command lines."""

from __future__ import annotations

import shutil

import pytest

from prefect_platform.errors import ConfigError

from .rules import FakeHost, container, stack

RELEASE = "20260101T000000Z-aaaaaaaa"
STACKS = {
    each.name: each
    for each in (
        stack("app", needs=["base", "queue"], databases=["app"]),
        stack("base"),
        stack("door", needs=["base"], scope="host"),
        stack("queue"),
    )
}
LABEL = "prefect-platform"


@pytest.fixture
def standing(fake: FakeHost) -> FakeHost:
    for name in STACKS:
        fake.release(name, RELEASE, scope="host" if name == "door" else "lab")
    fake.containers(
        container("app", "worker"),
        container("app", "vault-agent"),
        container("base", "base", "platform-base-lab"),
        container("queue", "queue", "platform-queue-lab"),
        container("door", "door", "platform-door", env="host"),
        container("base", "base", "platform-base-other", env="other"),
    )
    fake.runner.engine.networks = {
        "platform-edge-lab": {f"{LABEL}.env": "lab"},
        "platform-edge-other": {f"{LABEL}.env": "other"},
    }
    fake.runner.engine.volumes = {
        "platform-app-data-lab": {f"{LABEL}.env": "lab", f"{LABEL}.stack": "app"},
        "platform-app-secrets-lab": {"com.docker.compose.project": "platform-lab-app"},
        "platform-base-data-other": {f"{LABEL}.env": "other", f"{LABEL}.stack": "base"},
    }
    fake.runner.answer("docker", "exec", "-i", "platform-postgres-lab", "psql")
    return fake


def test_a_stack_that_others_need_stays(standing: FakeHost) -> None:
    with pytest.raises(ConfigError, match=r"base is needed by app \(lab\), door \(host\)") as refused:
        standing.target.remove(STACKS, "base", data=True)
    assert refused.value.hint.endswith("./invoke platform.remove --env lab")
    assert standing.docker() == []


def test_another_environment_s_need_counts_for_what_the_host_shares(standing: FakeHost) -> None:
    stacks = STACKS | {"user": stack("user", needs=["door", "base"])}
    standing.release("user", RELEASE, scope="other")
    with pytest.raises(ConfigError, match=r"door is needed by user \(other\)\n"):
        standing.target.remove(stacks, "door", data=False)
    with pytest.raises(ConfigError, match=r"base is needed by app \(lab\), door \(host\)\n"):
        standing.target.remove(stacks, "base", data=False)


def test_without_data_only_containers_and_routes_go(standing: FakeHost) -> None:
    routes = standing.root / "host" / "routes"
    routes.mkdir()
    for name in ("lab-app.yml", "lab-base.yml"):
        (routes / name).write_text("x")
    standing.target.remove(STACKS, "app", data=False)
    assert standing.docker() == [
        "docker stop platform-app-worker-lab",
        "docker stop platform-app-vault-agent-lab",
        "docker rm -f platform-app-vault-agent-lab platform-app-worker-lab",
    ]
    assert [path.name for path in routes.iterdir()] == ["lab-base.yml"]
    assert sorted(standing.target.established()) == ["base", "door", "queue"]
    assert (standing.root / "lab" / "app" / "releases" / RELEASE).is_dir()
    assert standing.target.history()[-1].what == "app.remove"


def test_data_goes_with_its_database_and_nothing_of_others(standing: FakeHost) -> None:
    standing.target.remove(STACKS, "app", data=True)
    assert standing.docker()[3:] == [
        "docker exec -i platform-postgres-lab psql -X -q -v ON_ERROR_STOP=1 -U postgres -d postgres",
        "docker volume rm -f platform-app-data-lab",
        "docker volume rm -f platform-app-secrets-lab",
    ]
    assert b"DROP DATABASE IF EXISTS app WITH (FORCE)" in standing.runner.calls[-5].stdin + b"".join(
        call.stdin for call in standing.runner.calls
    )
    assert not (standing.root / "lab" / "app").exists()
    assert (standing.root / "lab" / "base").exists()


def test_an_environment_goes_dependents_first_and_what_is_shared_stays(standing: FakeHost) -> None:
    standing.target.remove(STACKS, "", data=True)
    lines = standing.docker()
    assert [line for line in lines if "stop" in line] == [
        "docker stop platform-app-worker-lab",
        "docker stop platform-app-vault-agent-lab",
        "docker stop platform-base-lab",
        "docker stop platform-queue-lab",
    ]
    assert lines[-2:] == [
        "docker network disconnect -f platform-edge-lab platform-traefik",
        "docker network rm platform-edge-lab",
    ]
    # Its database goes with its Postgres.
    assert not any("psql" in line for line in lines)
    assert not any("door" in line or "other" in line for line in lines)
    assert not (standing.root / "lab").exists()
    assert (standing.root / "host" / "door" / "current").exists()


@pytest.mark.parametrize("name", ["app", "door", ""])
@pytest.mark.parametrize("data", [False, True])
def test_what_is_no_longer_there_is_not_said_to_be_removed(standing: FakeHost, name: str, data: bool) -> None:
    assert standing.target.removal(name, data)
    # The engine is a fake: what docker was told to remove is gone.
    standing.containers(container("base", "base", "platform-base-other", env="other"))
    standing.runner.engine.networks, standing.runner.engine.volumes = {}, {}
    assert standing.target.removal(name, data), "its files are there"
    for scope in ("lab", "host"):
        for each in (standing.root / scope).iterdir():
            (each / "current").unlink(missing_ok=True)
    assert bool(standing.target.removal(name, data)) == data, "releases are data"
    shutil.rmtree(standing.root / "lab")
    shutil.rmtree(standing.root / "host")
    assert standing.target.removal(name, data) == ""


def test_a_volume_that_an_interrupted_removal_left_is_still_to_be_removed(fake: FakeHost) -> None:
    labels = {f"{LABEL}.env": "lab", f"{LABEL}.stack": "app"}
    fake.runner.engine.volumes = {"platform-app-data-lab": labels}
    assert fake.target.removal("app", True)
    assert fake.target.removal("", True)
    assert fake.target.removal("app", False) == ""
