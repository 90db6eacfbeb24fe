"""What changes over time: revocation, rotation, restarts, losing the store."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from tests.gateway.forge import Forge, key_entry
from tests.gateway.process import Gateway

REVOCATION_SECONDS = 5.0  # the promise


def jti(gateway: Gateway, token: str) -> str:
    return gateway.verify(token).headers["X-Platform-Token-Id"]


def test_a_token_works_at_once_and_a_revocation_by_another_process_within_five_seconds(
    gateway: Gateway,
) -> None:
    gateway.start()
    kept, revoked = gateway.new_token(), gateway.new_token()
    assert gateway.verify(kept).status_code == 200
    assert gateway.verify(revoked).status_code == 200
    gateway.cli("revoke-token", jti(gateway, revoked)[:8])
    assert gateway.status_within(REVOCATION_SECONDS, revoked, 401) == 401
    assert gateway.verify(revoked).json() == {"error": "unauthorized"}
    assert gateway.verify(kept).status_code == 200


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM gateway_tokens", "UPDATE gateway_tokens SET revoked_at = '2001-01-01 00:00:00'"],
)
def test_what_a_person_does_to_the_table_counts_too(gateway: Gateway, statement: str) -> None:
    """Revoked by hand, or dated by a machine whose clock is years behind."""
    gateway.start()
    token = gateway.new_token()
    assert gateway.verify(token).status_code == 200
    gateway.sql(statement)
    assert gateway.status_within(REVOCATION_SECONDS, token, 401) == 401


def test_a_session_revoked_by_the_command_line_ends(gateway: Gateway) -> None:
    gateway.start()
    cookie = gateway.log_in()
    gateway.cli("revoke-token", gateway.browse(cookie).headers["X-Platform-Token-Id"])
    deadline = time.monotonic() + REVOCATION_SECONDS
    while gateway.browse(cookie).status_code != 401 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert gateway.browse(cookie).status_code == 401


def test_a_token_ends_when_it_expires_although_it_is_cached(gateway: Gateway) -> None:
    gateway.start()
    token = gateway.new_token("--expires", "4s")
    assert gateway.verify(token).status_code == 200
    assert gateway.status_within(8, token, 401) == 401


def test_keys_rotate_with_overlap(gateway: Gateway, entry: dict[str, Any]) -> None:
    old = gateway.new_token()
    newer = key_entry("key-2")
    gateway.env["GATEWAY_SIGNING_KEYS"] = json.dumps([newer, entry])
    new = gateway.new_token()
    gateway.start()
    assert (gateway.verify(old).status_code, gateway.verify(new).status_code) == (200, 200)
    gateway.stop()
    gateway.env["GATEWAY_SIGNING_KEYS"] = json.dumps([newer])
    gateway.start()
    assert (gateway.verify(old).status_code, gateway.verify(new).status_code) == (401, 200)


def test_a_restart_keeps_everything_and_last_used_is_written(gateway: Gateway) -> None:
    gateway.start()
    kept, revoked, cookie = gateway.new_token(), gateway.new_token(), gateway.log_in()
    path = gateway.login_path()
    used = jti(gateway, kept)
    gateway.cli("revoke-token", jti(gateway, revoked))
    assert gateway.stop() == 0
    [listed] = json.loads(gateway.cli("list-tokens", "--json").stdout)
    assert (listed["jti"], listed["last_used_at"] is not None) == (used, True)
    gateway.start()
    assert gateway.verify(kept).status_code == 200
    assert gateway.verify(revoked).status_code == 401
    assert gateway.browse(cookie).status_code == 200
    assert gateway.get(path).status_code == 303


def test_without_the_store_known_tokens_work_for_a_while_and_unknown_ones_wait(
    gateway: Gateway, entry: dict[str, Any]
) -> None:
    gateway.env["GATEWAY_MAX_STALE_SECONDS"] = "10"
    gateway.start()
    known = gateway.new_token()
    unknown = Forge(entry, known).sign({"jti": "0" * 32})
    assert (gateway.verify(known).status_code, gateway.verify(unknown).status_code) == (200, 401)
    away = gateway.database.with_suffix(".away")
    gateway.database.rename(away)
    assert gateway.status_within(8, unknown, 503) == 503
    assert "Retry-After" in gateway.verify(unknown).headers
    assert gateway.verify(known).status_code == 200
    assert not gateway.database.exists()  # an empty new database would look like "nothing was ever issued"
    assert gateway.status_within(20, known, 503) == 503
    assert gateway.verify("garbage").status_code == 401
    assert gateway.get("/health").json()["status"] == "closed"
    away.rename(gateway.database)
    assert gateway.status_within(10, known, 200) == 200
    assert gateway.status_within(10, unknown, 401) == 401


def test_a_replaced_database_is_the_one_that_counts(gateway: Gateway) -> None:
    """A restored backup is another file under the same name; an open connection would read the old one for ever."""
    gateway.start()
    token = gateway.new_token()
    assert gateway.verify(token).status_code == 200
    copy = gateway.folder / "backup.db"
    with closing(sqlite3.connect(gateway.database)) as source, closing(sqlite3.connect(copy)) as backup:
        source.backup(backup)
    for suffix in ("-wal", "-shm"):
        (gateway.folder / f"gateway.db{suffix}").unlink(missing_ok=True)
    copy.rename(gateway.database)
    gateway.cli("revoke-token", jti(gateway, token))
    assert gateway.status_within(REVOCATION_SECONDS, token, 401) == 401


def test_a_running_request_is_answered_before_the_process_ends(gateway: Gateway) -> None:
    gateway.start()
    path = gateway.login_path()
    assert gateway.process is not None
    with (
        closing(sqlite3.connect(gateway.database, isolation_level=None)) as writer,
        ThreadPoolExecutor() as pool,
    ):
        writer.execute("BEGIN IMMEDIATE")  # the login has to wait for this
        login = pool.submit(gateway.get, path)
        time.sleep(1)
        gateway.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert not login.done()
        writer.execute("COMMIT")
        assert login.result().status_code == 303
    assert gateway.process.wait(timeout=20) == 0


def test_first_starts_at_once_agree_on_the_tables(gateway: Gateway) -> None:
    with ThreadPoolExecutor(4) as pool:
        tokens = list(pool.map(lambda _: gateway.new_token(), range(4)))
    gateway.start()
    assert {gateway.verify(token).status_code for token in tokens} == {200}
