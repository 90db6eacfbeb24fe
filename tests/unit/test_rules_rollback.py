"""Which release a rollback takes, and what it does to the databases: whole command lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prefect_platform.errors import ConfigError

from .rules import FakeHost, stack

OLD, MIDDLE, NOW = "20260101T000000Z-aaaaaaaa", "20260102T000000Z-bbbbbbbb", "20260103T000000Z-cccccccc"


def _up(fake: FakeHost, name: str, release: str) -> str:
    return f"{_compose(fake, name, release)} up -d --remove-orphans --wait --wait-timeout 240"


def _compose(fake: FakeHost, name: str, release: str) -> str:
    folder = f"{fake.root}/lab/{name}"
    return f"flock {folder}/busy docker compose -p platform-lab-{name} -f {folder}/releases/{release}/compose.yml"


def _three(fake: FakeHost, name: str) -> None:
    for each in (OLD, MIDDLE, NOW):
        fake.release(name, each)


def test_the_newest_good_release_before_the_current(fake: FakeHost) -> None:
    _three(fake, "cache")
    fake.history(
        ("cache.setup", OLD, "good"), ("cache.setup", MIDDLE, "failed"), ("cache.setup", NOW, "good")
    )
    assert fake.target.roll_back(stack("cache"), "", False) == OLD
    assert fake.docker() == [_up(fake, "cache", OLD)]
    assert fake.current("cache") == OLD
    assert [(each.what, each.release, each.detail) for each in fake.target.history()[3:]] == [
        ("cache.rollback", OLD, f"from {NOW}")
    ]


def test_another_stack_s_history_says_nothing(fake: FakeHost) -> None:
    """`prefect` and `prefect-x` have releases of the same second."""
    _three(fake, "prefect")
    fake.history(
        ("prefect.setup", OLD, "good"), ("prefect-x.setup", MIDDLE, "good"), ("prefect.setup", NOW, "good")
    )
    assert fake.target.roll_back(stack("prefect"), "", False) == OLD


def test_a_wanted_release_even_one_that_failed(fake: FakeHost) -> None:
    _three(fake, "cache")
    fake.history(("cache.setup", OLD, "good"), ("cache.setup", MIDDLE, "failed"))
    assert fake.target.roll_back(stack("cache"), MIDDLE, False) == MIDDLE
    assert fake.docker() == [_up(fake, "cache", MIDDLE)]


def test_without_an_earlier_good_one_nothing_is_touched(fake: FakeHost) -> None:
    _three(fake, "cache")
    # Good once, but pruned since.
    fake.history(("cache.setup", "20250101T000000Z-00000000", "good"), ("cache.setup", NOW, "good"))
    with pytest.raises(ConfigError, match="no earlier good release"):
        fake.target.roll_back(stack("cache"), "", False)
    with pytest.raises(ConfigError, match=f"--to 1999: no such release; releases: {OLD}, {MIDDLE}, {NOW}"):
        fake.target.roll_back(stack("cache"), "1999", False)
    assert fake.docker() == []
    assert fake.current("cache") == NOW


MIGRATED = """\
services:
  server:
    image: app:{0}
  worker:
    image: worker:{1}
  vault-agent:
    image: agent:{1}
  migrate:
    image: app:{0}@sha256:{1}
    labels: {{prefect-platform.once: 'yes'}}
"""
BY_ITSELF = """\
services:
  server:
    image: app:{0}@sha256:{1}
  worker:
    image: app:{0}
  vault-agent:
    image: agent:{1}
"""
BY_FILES = """\
services:
  verifier:
    image: python:{1}
    x-schema: {0}
  vault-agent:
    image: agent:{1}
"""
KINDS = pytest.mark.parametrize("compose", [MIGRATED, BY_ITSELF, BY_FILES], ids=["once", "itself", "files"])


def _upgraded(fake: FakeHost, compose: str) -> None:
    """Schema 1, twice, then schema 2."""
    for number, (release, version) in enumerate(((OLD, 1), (MIDDLE, 1), (NOW, 2))):
        fake.release("app", release, compose.format(version, number))


@KINDS
def test_the_same_schema_needs_no_dump(fake: FakeHost, compose: str) -> None:
    for number, release in enumerate((OLD, NOW)):
        fake.release("app", release, compose.format(1, number))
    assert fake.target.roll_back(stack("app", ["app"]), OLD, False) == OLD
    assert fake.docker() == [_up(fake, "app", OLD)]


@KINDS
def test_another_schema_without_a_dump_is_refused(fake: FakeHost, compose: str) -> None:
    _upgraded(fake, compose)
    with pytest.raises(ConfigError, match=r"schema may have changed in between, and .* has no dump"):
        fake.target.roll_back(stack("app", ["app"]), OLD, True)
    assert fake.docker() == []


@KINDS
def test_another_schema_with_a_dump_takes_restore(fake: FakeHost, compose: str) -> None:
    _upgraded(fake, compose)
    _dump(fake, MIDDLE)
    with pytest.raises(ConfigError, match="schema may have changed") as refused:
        fake.target.roll_back(stack("app", ["app"]), OLD, False)
    assert refused.value.hint.startswith(f"./invoke app.rollback --env lab --to {OLD} --restore:")
    assert fake.docker() == []


@KINDS
def test_restore_stops_keeps_what_is_there_and_brings_back_the_dump(fake: FakeHost, compose: str) -> None:
    _upgraded(fake, compose)
    _dump(fake, MIDDLE)
    fake.runner.answer("sh", "-c", "*pg_dump*")
    fake.runner.answer("sh", "-c", "*pg_restore*")
    fake.runner.answer("docker", "exec", "-i", "platform-postgres-lab", "psql")
    fake.target.roll_back(stack("app", ["app"]), OLD, True)
    psql = "docker exec -i platform-postgres-lab psql -X -q -v ON_ERROR_STOP=1 -U postgres -d"
    assert fake.docker() == [
        f"{_compose(fake, 'app', NOW)} stop",
        *(f"{psql} {database}" for database in ("postgres", "app_restored", "postgres")),
        _up(fake, "app", OLD),
    ]
    scripts = [call.words[4:] for call in fake.runner.calls if "pg_" in "".join(call.words)]
    dumps = f"{fake.root}/lab/postgres/dumps"
    # A second attempt must not replace what the first one kept: the name is of this one.
    kept = scripts[0][3]
    assert re.fullmatch(r"\d{8}T\d{6}Z-rolled-back", kept)
    assert scripts == [
        (dumps, "platform-postgres-lab", "app", kept, "5"),
        (f"{dumps}/app-{MIDDLE}.dump", "platform-postgres-lab", "app_restored"),
    ]
    assert fake.current("app") == OLD


def test_a_stack_without_databases_needs_none_of_it(fake: FakeHost) -> None:
    _upgraded(fake, BY_ITSELF)
    assert fake.target.roll_back(stack("app"), OLD, False) == OLD
    assert fake.docker() == [_up(fake, "app", OLD)]


def test_a_backup_put_back_is_migrated_by_whatever_migrates_its_stack(fake: FakeHost, tmp_path: Path) -> None:
    fake.release("app", NOW, MIGRATED.replace("migrate:", "upgrade:").format(1, 1))
    fake.runner.answer("sh", "-c", "*pg_dump*")
    fake.runner.answer("sh", "-c", "*pg_restore*")
    fake.runner.answer("docker", "exec", "-i", "platform-postgres-lab", "psql")
    (tmp_path / "file.dump").write_bytes(b"PGDMP")
    fake.target.restore(stack("app", ["data"]), tmp_path / "file.dump")
    project = _compose(fake, "app", NOW)
    assert [line for line in fake.docker() if line.startswith("flock")] == [
        f"{project} stop",
        f"{project} up -d --wait --wait-timeout 120 vault-agent",
        f"{project} up --no-deps --exit-code-from upgrade --abort-on-container-exit upgrade",
        _up(fake, "app", NOW),
    ]
    loaded = [call.words[4] for call in fake.runner.calls if "pg_restore" in "".join(call.words)]
    assert loaded == [f"{fake.root}/lab/postgres/dumps/data-uploaded.dump"]


def _dump(fake: FakeHost, release: str) -> None:
    folder = fake.root / "lab" / "postgres" / "dumps"
    folder.mkdir(parents=True)
    (folder / f"app-{release}.dump").write_text("x")
