"""An environment that is stopped, was never set up, or lost a file: each task says so with the next command, none with a traceback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import Clone, free_ports

pytestmark = pytest.mark.timeout(300)
ENV = "elsewhere"


@pytest.mark.parametrize(
    "words",
    [
        ("prefect.restart",),
        ("prefect.smoke",),
        ("prefect.pools",),
        ("prefect.logs",),
        ("prefect.backup",),
        ("prefect.connect",),
        ("gateway.login-url",),
        ("gateway.create-token", "--project", "a", "--service", "b"),
    ],
    ids=lambda words: words[0],
)
def test_an_environment_that_was_never_set_up_is_pointed_to_setup(
    platform: Clone, words: tuple[str, ...]
) -> None:
    refused = platform.invoke(*words, code=None, INVOKE_PLATFORM_STATE=str(platform.home / "nothing"))
    assert refused.returncode in (1, 2, 3)
    assert "Traceback" not in refused.stderr
    assert "setup" in refused.stderr.partition("hint: ")[2]


def test_lost_files_are_planned_and_restored_without_a_restart(platform: Clone) -> None:
    before = platform.pids()
    lost = ("secrets/prefect.env", "run/supervisord.conf")
    for name in lost:
        (platform.state / name).unlink()
    planned = platform.invoke("prefect.plan").stdout
    assert all(f"{name}" in planned for name in lost)
    refused = platform.invoke("prefect.restart", "--service", "server", code=3)
    assert "missing; nothing was changed\nhint: ./invoke prefect.setup restores it" in refused.stderr
    assert "2 changes" in platform.invoke("prefect.setup").stderr
    assert all((platform.state / name).stat().st_mode & 0o777 == 0o600 for name in lost)
    assert platform.pids() == before


def test_a_gateways_database_that_cannot_be_reached_is_a_failed_step_with_its_key(platform: Clone) -> None:
    """In an environment of its own, on the same runtime."""
    kept = dict(platform.settings)
    port, *ports = free_ports(6)
    gateway = dict(zip(("port", "verifier_port", "auth_port", "ops_port"), ports, strict=False))
    url = f"postgresql://gw@127.0.0.1:{port}/gw"
    platform.settings["environments"] = {
        ENV: {"gateway": {**gateway, "database_url": url}, "prefect": {"port": ports[4]}}
    }
    platform.write()
    try:
        failed = platform.invoke("prefect.setup", "--env", ENV, code=6, GATEWAY_DATABASE_PASSWORD="one")
        assert "token database" in failed.stderr
        hint = failed.stderr.partition("hint: ")[2]
        assert "platform.gateway.database_url" in hint
        assert f"./invoke prefect.setup --env {ENV}" in hint
        changed = platform.invoke("gateway.plan", "--env", ENV, GATEWAY_DATABASE_PASSWORD="two")
        assert "a secret changed" in changed.stdout
        assert "a new value is given" in changed.stdout
    finally:
        platform.invoke("prefect.remove", "--env", ENV, "--data", "--yes", code=None)
        platform.settings = kept
        platform.write()


# -- from here on it is stopped
@pytest.fixture(scope="module")
def stopped(clone: Clone, first_setup: object) -> Iterator[Clone]:
    clone.invoke("prefect.stop")
    yield clone
    clone.invoke("prefect.setup")


@pytest.mark.parametrize("task", ["prefect.restart", "prefect.smoke", "prefect.pools"])
def test_a_task_that_needs_running_services_says_that_none_run(stopped: Clone, task: str) -> None:
    refused = stopped.invoke(task, code=3)
    assert refused.stderr == "environment 'local' is not running\nhint: ./invoke prefect.setup\n"
    assert refused.stdout == ""


def test_one_service_of_a_stopped_environment_is_not_restarted(stopped: Clone) -> None:
    refused = stopped.invoke("prefect.restart", "--service", "server", code=3)
    assert refused.stderr == "environment 'local' is not running\nhint: ./invoke prefect.setup\n"


def test_what_needs_no_services_works_and_a_link_to_nothing_is_not_made(stopped: Clone) -> None:
    link = stopped.invoke("gateway.login-url", code=1)
    assert "environment 'local' is not running: a link would lead nowhere" in link.stderr
    assert link.stdout == ""
    stopped.invoke("prefect.logs", "--service", "server")
    stopped.invoke("gateway.list-tokens")
    assert stopped.invoke("prefect.stop").stderr == "environment 'local' is not running\n"
