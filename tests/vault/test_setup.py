"""vault.setup against a real server: once, again, cut short at every step, and with what others left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from prefect_platform.errors import PlatformError
from prefect_platform.secretstore.store import Secret
from prefect_platform.secretstore.vault.kv import Vault
from prefect_platform.secretstore.vault.server import OPERATOR_POLICY
from prefect_platform.secretstore.vault.setup import plan, recover, setup, verify, wait_ready

from .bao import ROOT, Server, free_port, wait_for, work

LAST_STEP = 18
"""More effects than a whole setup has; `test_there_are_no_more_steps` keeps it true."""


def _files(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mode & 0o777
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_once_and_again(server: Server, tmp_path: Path) -> None:
    shown: list[str] = []
    operator = work(tmp_path / "me", shown=shown)
    first = setup(operator, server)
    assert "initialised Vault" in first.changes
    assert first.notices == ()
    assert len([line for line in shown if "recovery key" in line]) == 3
    # Nothing but the operator's token stays, for this user alone.
    assert _files(tmp_path / "me") == {"secrets/vault.json": 0o600, "secrets/vault.env": 0o600}
    assert (server.folder / "seal" / "key").stat().st_mode & 0o777 == 0o600

    before = server.writes()
    second = setup(operator, server)
    assert (second.changes, second.notices, server.writes()) == ((), (), before)
    assert len([line for line in shown if "recovery key" in line]) == 3


def test_it_opens_itself_after_any_end(server: Server, tmp_path: Path) -> None:
    operator = work(tmp_path / "me")
    setup(operator, server)
    vault = Vault(server.address, operator.token)
    vault.update("platform/production/x", lambda values: {"A": "kept"})
    for number in (signal.SIGTERM, signal.SIGKILL):
        server.restart(number)
        assert setup(operator, server).changes == ()
        assert vault.read("platform/production/x")["A"].value == "kept"


def test_the_root_token_is_gone_and_the_operators_is_bounded(server: Server, tmp_path: Path) -> None:
    operator = work(tmp_path / "me", keep_recovery_keys=True)
    setup(operator, server)
    kept = json.loads(operator.journal.read_text())
    assert sorted(kept) == ["recovery_keys", "threshold"]
    assert operator.journal.stat().st_mode & 0o777 == 0o600
    assert operator.token
    assert sorted(Vault(server.address, operator.token).token_policies()) == ["default", OPERATOR_POLICY]
    roots = [
        each
        for each in server.requests()
        if each["policies"] == ["root"] and each["path"] == "auth/token/revoke-self"
    ]
    assert len(roots) == 1


@pytest.fixture(scope="module")
def reused(tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp("reused")
    server = Server(folder, free_port())
    server.start()
    return server


@pytest.fixture(scope="module", autouse=True)
def _stopped(reused: Server) -> object:
    yield
    reused.stop()


def _killed_after(step: int, server: Server, folder: Path) -> int:
    words = [
        sys.executable,
        "-m",
        "tests.vault.killed_setup",
        str(server.folder),
        str(server.port),
        str(folder),
        str(step),
    ]
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}/src:{ROOT}"}
    return subprocess.run(words, cwd=ROOT, env=env, timeout=100, check=False).returncode


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, LAST_STEP))
def test_cut_short_after_any_step(reused: Server, tmp_path: Path, step: int) -> None:
    reused.wipe()
    reused.claim(False)
    code = _killed_after(step, reused, tmp_path / "me")
    assert code in (0, -signal.SIGKILL)
    shown: list[str] = []
    operator = work(tmp_path / "me", shown=shown)
    setup(operator, reused)
    assert shown or (tmp_path / "me" / "shown").exists()
    before = reused.writes()
    report = setup(operator, reused)
    assert (report.changes, report.notices, reused.writes()) == ((), (), before)
    assert not operator.journal.exists()
    assert not reused.claimed()
    assert _operator_tokens(reused, operator.token) == 1


def _operator_tokens(server: Server, token: Secret | None) -> int:
    """Tokens that were made, less those that were ended."""
    assert token
    paths = [each["path"] for each in _since_last_init(server)]
    return paths.count("auth/token/create") - paths.count("auth/token/revoke-accessor")


def _since_last_init(server: Server) -> list[dict[str, object]]:
    requests = server.requests()
    starts = [
        number
        for number, each in enumerate(requests)
        if each["path"] == "sys/mounts/secret" and each["operation"] == "update"
    ]
    return requests[starts[-1] :]


@pytest.mark.slow
def test_there_are_no_more_steps(reused: Server, tmp_path: Path) -> None:
    reused.wipe()
    assert _killed_after(LAST_STEP, reused, tmp_path / "me") == 0


def test_two_laptops(server: Server, tmp_path: Path) -> None:
    """One is cut off after the keys arrived; the other starts anew; the first one's keys are of no use and say so."""
    assert _killed_after(3, server, tmp_path / "first") == -signal.SIGKILL
    first, second = work(tmp_path / "first"), work(tmp_path / "second")
    assert first.journal.exists()
    server.claim(True)
    assert "initialised Vault" in setup(second, server).changes
    with pytest.raises(PlatformError, match="initialised, but this machine has no token for it"):
        setup(first, server)
    assert setup(second, server).changes == ()


def test_a_claim_that_came_back_wipes_nothing(server: Server, tmp_path: Path) -> None:
    operator = work(tmp_path / "me")
    setup(operator, server)
    Vault(server.address, operator.token).update("platform/production/x", lambda values: {"A": "kept"})
    server.claim(True)
    setup(operator, server)
    assert Vault(server.address, operator.token).read("platform/production/x")["A"].value == "kept"
    assert not server.claimed()


def test_a_lost_operator_token_is_made_anew_with_a_root_token(server: Server, tmp_path: Path) -> None:
    assert _killed_after(4, server, tmp_path / "me") == -signal.SIGKILL
    root = Secret(json.loads((tmp_path / "me" / "vault-keys.json").read_text())["root_token"])
    other = work(tmp_path / "other", given=root)
    assert "created the operator's token" in setup(other, server).changes
    kept = work(tmp_path / "other")
    assert setup(kept, server).changes == ()
    # What was given is its owner's: it still works.
    assert Vault(server.address, root).token_works()


def test_a_lost_operator_token_is_made_anew_with_the_recovery_keys(server: Server, tmp_path: Path) -> None:
    setup(work(tmp_path / "first", keep_recovery_keys=True), server)
    told = json.loads((tmp_path / "first" / "vault-keys.json").read_text())
    keys = [Secret(key) for key in told["recovery_keys"]]
    other = work(tmp_path / "other")
    with pytest.raises(PlatformError, match="1 recovery keys entered, 2 are needed"):
        recover(other, server.address, keys[:1])
    with pytest.raises(PlatformError, match="sys/generate-root/update"):
        recover(other, server.address, [keys[0], Secret("d3Jvbmc=")])
    assert "created the operator's token" in recover(other, server.address, keys[1:]).changes
    assert setup(other, server).changes == ()
    ends = [each for each in server.requests() if each["path"] == "auth/token/revoke-self"]
    assert [each["policies"] for each in ends] == [["root"], ["root"]]


def test_a_lost_seal_key_is_never_made_anew(server: Server, tmp_path: Path) -> None:
    setup(work(tmp_path / "me"), server)
    server.stop()
    (server.folder / "seal" / "key").unlink()
    server.start()
    wait_for(lambda: "restore it from a backup" in server.log.read_text(errors="replace"), "the refusal")
    assert not (server.folder / "seal" / "key").exists()


def test_another_vault_is_only_looked_at(server: Server, tmp_path: Path) -> None:
    assert _killed_after(4, server, tmp_path / "admin") == -signal.SIGKILL
    root = Secret(json.loads((tmp_path / "admin" / "vault-keys.json").read_text())["root_token"])
    admin = Vault(server.address, root)
    header, itself = {"X-Vault-Token": root.value}, f"{server.address}/v1/auth/token/lookup-self"
    # Initialised is not yet ready: for some milliseconds its tokens get an internal error.
    wait_for(lambda: httpx.get(itself, headers=header).status_code == 200, "its token store")
    with pytest.raises(
        PlatformError,
        match=r"nothing is mounted at secret/[\s\S]*bao secrets enable -path=secret -version=2 kv",
    ):
        verify(work(tmp_path / "me", given=root), server.address)
    assert (admin.ensure_kv(), admin.ensure_approle()) == ("created", "created")
    admin.ensure_policy(OPERATOR_POLICY, (ROOT / "vault" / "operator-policy.hcl").read_text())
    token = admin.create_operator_token()
    before = server.writes()
    report = verify(work(tmp_path / "me", given=token), server.address)
    assert (report.changes, report.notices, server.writes()) == ((), (), before)


def test_an_outdated_operator_policy_is_told(server: Server, tmp_path: Path) -> None:
    operator = work(tmp_path / "me")
    setup(operator, server)
    newer = tmp_path / "operator-policy.hcl"
    newer.write_text(operator.policy.read_text() + "# newer\n")
    again = work(tmp_path / "me")
    report = setup(type(again)(**{**again.__dict__, "policy": newer}), server)
    assert "administrator's token updates it" in report.notices[0]


def test_the_plan_names_what_setup_then_does(server: Server, tmp_path: Path) -> None:
    operator = work(tmp_path / "me")
    wait_ready(operator, server.address, 60, blank=True)
    before = plan(operator, server)
    assert before == plan(operator, None)
    assert "initialised Vault" in before
    assert not operator.journal.exists()
    assert setup(operator, server).changes == before
    assert plan(operator, server) == ()


@pytest.mark.parametrize("step", [4, 6, 9, 12])
def test_the_plan_names_what_an_interrupted_setup_still_does(
    server: Server, tmp_path: Path, step: int
) -> None:
    assert _killed_after(step, server, tmp_path / "me") == -signal.SIGKILL
    operator = work(tmp_path / "me")
    wait_ready(operator, server.address, 60)
    before, writes = plan(operator, server), server.writes()
    assert before
    assert plan(operator, server) == before
    assert server.writes() == writes
    assert setup(operator, server).changes == before
