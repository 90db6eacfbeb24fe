"""What we tell a person to type works when it is pasted: it names the environment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from prefect_platform.cli import hints
from prefect_platform.cli.hints import addressed


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
            "TOKEN=… ./invoke authentik.shared.create-proxy-app.",
            "TOKEN=… ./invoke authentik.shared.create-proxy-app --env staging.",
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
