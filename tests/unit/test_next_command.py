"""What we tell a person to type works when it is pasted: it names the environment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tasks
from prefect_platform.cli import hints
from prefect_platform.cli.hints import addressed
from prefect_platform.gateway.pages import how_to_log_in


@pytest.fixture(autouse=True)
def _local() -> Iterator[None]:
    yield
    hints.about(hints.LOCAL)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("./invoke prefect.setup", "./invoke prefect.setup --env staging"),
        (
            "./invoke prefect.logs --service NAME; then",
            "./invoke prefect.logs --env staging --service NAME; then",
        ),
        ("./invoke vault.setup --env staging", "./invoke vault.setup --env staging"),
        ("./invoke prefect.rollback --to 3 --env staging", "./invoke prefect.rollback --to 3 --env staging"),
        (
            "./invoke authentik.setup, then ./invoke prefect.setup --env staging",
            "./invoke authentik.setup --env staging, then ./invoke prefect.setup --env staging",
        ),
        (
            "./invoke lab.up; ./invoke --list; ./invoke lint",
            "./invoke lab.up; ./invoke --list; ./invoke lint",
        ),
        ("VAULT_TOKEN=… ./invoke …", "VAULT_TOKEN=… ./invoke …"),
    ],
)
def test_the_environment_is_named(written: str, shown: str) -> None:
    assert addressed(written) == written
    hints.about("staging")
    assert addressed(written) == shown
    assert addressed(shown) == shown


def _environments() -> list[tuple[str, str]]:
    """(task, its default environment or empty) of all tasks that have --env."""
    found = []
    for name in tasks.namespace.task_names:
        task = tasks.namespace[name]
        for argument in task.get_arguments():
            if argument.name == "env":
                found.append((name, str(argument.default or "")))
    return found


@pytest.mark.parametrize(("name", "default"), _environments())
def test_a_task_is_named_with_the_environment_unless_it_is_that_tasks_default(
    name: str, default: str
) -> None:
    for env in ("local", "fly", "production", "staging"):
        hints.about(env)
        wanted = f"./invoke {name}" if env == default else f"./invoke {name} --env {env}"
        assert addressed(f"./invoke {name}") == wanted


def test_the_login_page_names_the_environment() -> None:
    assert how_to_log_in("prefect-platform/second")[1] == "./invoke gateway.login-url --env second"
    assert how_to_log_in("prefect-platform/local")[1] == "./invoke gateway.login-url"
