"""The same gateway on a real Postgres: a throw-away cluster of its own, with TLS, on a free port."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.gateway import ending
from tests.gateway.forge import Forge
from tests.gateway.process import Gateway
from tests.postgres import Cluster, new_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with new_cluster() as made:
        yield made


@pytest.fixture
def postgres(gateway: Gateway, cluster: Cluster, request: pytest.FixtureRequest) -> Gateway:
    """The test's gateway on an empty database of its own."""
    database = "t" + request.node.name.replace("test_", "")[:40]
    cluster.sql("postgres", f'CREATE DATABASE "{database}"')
    gateway.env["GATEWAY_DATABASE_URL"] = cluster.url(database)
    return gateway


def database_of(gateway: Gateway) -> str:
    return gateway.env["GATEWAY_DATABASE_URL"].rpartition("/")[2].partition("?")[0]


def test_issue_verify_revoke(postgres: Gateway, cluster: Cluster) -> None:
    postgres.start()
    token = postgres.new_token("--description", "GPU workers")
    admitted = postgres.verify(token)
    assert admitted.status_code == 200
    postgres.cli("revoke-token", admitted.headers["X-Platform-Token-Id"][:8])
    assert postgres.status_within(5, token, 401) == 401
    assert postgres.stop() == 0
    query = "SELECT project, last_used_at IS NOT NULL, revoked_at >= issued_at FROM gateway_tokens"
    assert cluster.sql(database_of(postgres), query) == [("example-app", True, True)]


def test_tokens_in_use_that_end_soon(postgres: Gateway) -> None:
    found = ending.asked(postgres)
    assert [each["subject"] for each in found] == ["tests/sooner", "tests/soon"]


def test_times_are_timestamps_with_a_zone(postgres: Gateway, cluster: Cluster) -> None:
    postgres.new_token()
    query = "SELECT pg_typeof(expires_at)::text, abs(extract(epoch FROM now() - issued_at)) < 3600 FROM gateway_tokens"
    assert cluster.sql(database_of(postgres), query) == [("timestamp with time zone", True)]


def test_the_tables_are_closed_to_other_roles(postgres: Gateway, cluster: Cluster) -> None:
    """Supabase serves the public schema to its anonymous role unless row level security is on."""
    postgres.new_token()
    query = "SELECT relrowsecurity FROM pg_class WHERE relname IN ('gateway_tokens', 'gateway_login_codes')"
    assert cluster.sql(database_of(postgres), query) == [(True,), (True,)]


def test_a_login_link_works_once_among_many(postgres: Gateway) -> None:
    postgres.start()
    path = postgres.login_path()
    # None has the cookie that another got: with it a used link leads in.
    with ThreadPoolExecutor(8) as pool:
        statuses = [response.status_code for response in pool.map(httpx.get, [f"{postgres.url}{path}"] * 16)]
    assert sorted(statuses) == [303] + [401] * 15


def test_first_starts_at_once_agree_on_the_tables(postgres: Gateway) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: postgres.new_token(), range(4)))


def test_a_wrong_password_is_one_line_without_it(postgres: Gateway, cluster: Cluster) -> None:
    wrong = cluster.url("postgres", password="sesame")
    for command in (["serve"], ["list-tokens"]):
        done = postgres.cli(*command, check=False, GATEWAY_DATABASE_URL=wrong)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert "password authentication failed" in done.stderr
        assert "sesame" not in done.stderr


def test_verify_full_does_not_take_any_certificate(postgres: Gateway, cluster: Cluster) -> None:
    strict = cluster.url("postgres", query="sslmode=verify-full")
    done = postgres.cli("list-tokens", check=False, GATEWAY_DATABASE_URL=strict)
    assert done.returncode == 1
    assert "certificate" in done.stderr.lower()


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2", "postgresql+asyncpg"])
def test_every_flavour_of_url(postgres: Gateway, scheme: str) -> None:
    url = postgres.env["GATEWAY_DATABASE_URL"].replace("postgres", scheme, 1)
    extra = "&pgbouncer=true&connect_timeout=10&application_name=ours"
    assert postgres.cli("list-tokens", GATEWAY_DATABASE_URL=url + extra).returncode == 0


def test_a_server_that_is_away_is_waited_for(
    postgres: Gateway, cluster: Cluster, entry: dict[str, Any]
) -> None:
    token = postgres.new_token()
    cluster.stop()
    try:
        postgres.start(wait_for="closed")
        assert postgres.verify(token).status_code == 503
        assert postgres.verify("garbage").status_code == 401
    finally:
        cluster.start()
    assert postgres.status_within(20, token, 200) == 200
    unknown = Forge(entry, token).sign({"jti": "0" * 32})
    assert postgres.verify(unknown).status_code == 401
    cluster.stop()
    try:
        assert postgres.status_within(15, unknown, 503) == 503
        assert postgres.verify(token).status_code == 200
    finally:
        cluster.start()
    assert postgres.status_within(20, unknown, 401) == 401
    assert postgres.verify(token).status_code == 200
