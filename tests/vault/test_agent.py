"""A real agent beside a real process: values to its environment byte for byte, rotation, and a Vault that is away, sealed or wiped out of memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_platform.config.stack import SecretSpec
from prefect_platform.errors import PlatformError
from prefect_platform.secretstore.store import Secret
from prefect_platform.secretstore.vault.kv import Vault

from .bao import ROOT, Agent, program, wait_for
from .conftest import MakeAgent, Ready, admit, make_stack

ENTRYPOINT = str(ROOT / "vault" / "entrypoint.sh")
SHELLS = (["/bin/dash"], ["/bin/busybox", "sh"], ["/bin/bash", "--posix"])
NASTY = [
    "plain",
    "'",
    "''\"\"",
    "it's",
    "$HOME ${HOME} $(id) `id`",
    "#comment # more",
    "%s %d %",
    "user:p@ss/w:rd@host/?a=b&c",
    "back\\slash \\n \\\\ '\\''",
    "two\nlines",
    "\nleading",
    "trailing\n\n\n",
    " spaces ",
    "\ttab\r\ncarriage",
    "é€ß 日本語 🔑 \u00c1\u0081\u0088",
    "{{ .Data }} {{`x`}} <no value>",
    "!history ~ * ? [a] ; | & < > ( )",
    "=",
    "'; echo gone; '",
    "\x01\x02\x7f\x1b[31m",
]
SHOW = "import json, os, sys; sys.stdout.write(json.dumps(dict(os.environ)))"


def _loaded(file: Path, shell: list[str]) -> dict[str, str]:
    words = [*shell, ENTRYPOINT, sys.executable, "-c", SHOW]
    env = {"SECRETS_FILE": str(file), "PATH": "/usr/bin:/bin", "PYTHONUTF8": "1"}
    return dict(
        json.loads(subprocess.run(words, env=env, capture_output=True, check=True, timeout=60).stdout)
    )


def _once(ready: Ready, folder: Path, values: Mapping[str, str]) -> Path:
    """The agent's template, rendered by the agent itself, which then ends."""
    stack = make_stack(f"nasty-{os.urandom(4).hex()}", *(SecretSpec(name, "password") for name in values))
    name = admit(ready.vault, stack)
    ready.store().merge(stack.name, values)
    own = {f"secret/data/platform/production/{stack.name}": {name: name for name in values}}
    agent = Agent(folder / stack.name, ready.server.address, own)
    agent.admit(ready.vault, name)
    done = subprocess.run(
        [program(), "agent", f"-config={agent.folder}/agent.hcl", "-exit-after-auth"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert agent.output.exists(), done.stderr
    return agent.output


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_any_value_reaches_the_process(ready: Ready, tmp_path: Path, shell: list[str]) -> None:
    values = {f"VALUE_{number}": value for number, value in enumerate(NASTY)} | {"LONG": "x'$\n" * 5000}
    file = _once(ready, tmp_path, values)
    assert file.stat().st_mode & 0o777 == 0o400
    seen = _loaded(file, shell)
    assert {name: seen[name] for name in values} == values


# Every text that a process' environment can hold: no NUL, and no half of a surrogate pair, which is no text.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=0, max_size=60)


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXT, min_size=20, max_size=40))
def test_any_text_reaches_the_process(ready: Ready, tmp_path: Path, texts: list[str]) -> None:
    values = {f"VALUE_{number}": text for number, text in enumerate(texts)}
    file = _once(ready, tmp_path, values)
    for shell in SHELLS[:2]:
        seen = _loaded(file, shell)
        assert {name: seen[name] for name in values} == values


def test_it_takes_what_the_stack_names_and_no_more(ready: Ready, make_agent: MakeAgent) -> None:
    ready.store().merge("a-owner", {"PASSWORD": "taken", "OTHER": "not taken"})
    taker = make_stack(
        "a-taker", SecretSpec("OWN", "password"), SecretSpec("DB_PASSWORD", "", "a-owner/PASSWORD")
    )
    agent = make_agent(taker, {"OWN": "own", "lower-case": "x"})
    assert wait_for(agent.rendered, "the file").split() == ["OWN='own'", "DB_PASSWORD='taken'"]


def test_any_folder_is_data_to_the_agent(ready: Ready, tmp_path: Path) -> None:
    folder = tmp_path / 'we"ird ${HOME} {{ x }} \\ é\nline'
    assert "A='1'" in _once(ready, folder, {"A": "1"}).read_text()


def test_a_value_that_is_missing_holds_the_file_back(ready: Ready, make_agent: MakeAgent) -> None:
    stack = make_stack("a-late", SecretSpec("FIRST", "password"), SecretSpec("SECOND", "password"))
    agent = make_agent(stack, {"FIRST": "1"})
    wait_for(lambda: "map has no entry for key" in agent.log.read_text(), "the agent's complaint")
    assert not agent.output.exists()
    ready.store().merge(stack.name, {"SECOND": "2"})
    assert "SECOND='2'" in wait_for(agent.rendered, "the file")


def test_no_secret_in_any_argument_or_log(ready: Ready, make_agent: MakeAgent) -> None:
    stack = make_stack("a-quiet", SecretSpec("A", "password"))
    agent = make_agent(stack)
    ready.store().ensure(stack)
    wait_for(agent.rendered, "the file")
    login = {file.name: file.read_text() for file in (agent.folder / "approle").iterdir()}
    assert {(agent.folder / "approle" / name).stat().st_mode & 0o777 for name in login} == {0o600}
    hushed = [login["secret-id"], ready.token.value, ready.store().read(stack.name)["A"].value]
    assert agent.popen
    for pid in (agent.popen.pid, ready.server.pid):
        process = psutil.Process(pid)
        said = " ".join([*process.cmdline(), *process.environ().values()])
        assert [word for word in hushed if word in said] == []
    logs = agent.log.read_text() + ready.server.log.read_text(errors="replace")
    assert [word for word in hushed if word in logs] == []


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    each = Supervised(tmp_path)
    yield each
    each.end()


class Supervised:
    """A process behind the entrypoint. It notes its start and the signal that ended it."""

    PROGRAM = """
import os, signal, sys, time
def note(text):
    with open(sys.argv[1], "a") as file: file.write(text + "\\n")
for name in ("SIGTERM", "SIGINT"):
    signal.signal(getattr(signal, name), lambda number, frame: (note(signal.Signals(number).name), sys.exit(0)))
note("A=" + os.environ["A"])
while True: time.sleep(0.1)
"""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self.log = folder / "process.log"
        self.popen: subprocess.Popen[bytes] | None = None

    def start(self, file: Path, shell: list[str] | None = None, **env: str) -> None:
        words = [*(shell or ["/bin/sh"]), ENTRYPOINT, sys.executable, "-c", self.PROGRAM, str(self.notes)]
        with self.log.open("ab") as log:
            variables = {"PATH": "/usr/bin:/bin", "SECRETS_FILE": str(file), **env}
            self.popen = subprocess.Popen(words, env=variables, stdout=log, stderr=log)

    def noted(self) -> list[str]:
        return self.notes.read_text().split() if self.notes.exists() else []

    def end(self) -> None:
        if self.popen:
            self.popen.kill()
            self.popen.wait()


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_a_rotated_value_reaches_the_process(
    ready: Ready, make_agent: MakeAgent, supervised: Supervised, shell: list[str]
) -> None:
    stack = make_stack(f"a-rotated-{Path(shell[0]).name}", SecretSpec("A", "password"))
    agent = make_agent(stack, {"A": "old"})
    supervised.start(agent.output, shell, SECRETS_WATCH="1", SECRETS_STOP_SIGNAL="INT")
    wait_for(lambda: supervised.noted() == ["A=old"], "the first start")
    ready.store().merge(stack.name, {"A": "new"})
    assert supervised.popen
    assert supervised.popen.wait(60) == 0
    supervised.start(agent.output, shell, SECRETS_WATCH="1")
    wait_for(lambda: supervised.noted() == ["A=old", "SIGINT", "A=new"], "the second start")
    assert "changed: ending process" in supervised.log.read_text()


def test_vault_away_before_and_after(ready: Ready, make_agent: MakeAgent, supervised: Supervised) -> None:
    """First start without Vault; then Vault restarts, killed and asked; the process never ends for it."""
    stack = make_stack("a-away", SecretSpec("A", "password"))
    agent = make_agent(stack, {"A": "one"}, start=False)
    ready.server.stop(signal.SIGKILL)
    agent.start()
    supervised.start(agent.output, SECRETS_WATCH="1")
    wait_for(lambda: "connection refused" in agent.log.read_text(), "the agent's complaint")
    ready.server.start()
    wait_for(lambda: supervised.noted() == ["A=one"], "the first start of the process")
    for number in (signal.SIGTERM, signal.SIGKILL):
        refused = _refusals(agent)
        ready.server.stop(number)
        _refused_again(agent, refused)
        assert "A='one'" in agent.rendered()
        ready.server.start()
    assert supervised.noted() == ["A=one"]
    _answered(ready)
    ready.store().merge(stack.name, {"A": "two"})
    wait_for(lambda: "A='two'" in agent.rendered(), "the new value")
    wait_for(lambda: supervised.noted() == ["A=one", "SIGTERM"], "the end of the process")


def test_vault_sealed(ready: Ready, make_agent: MakeAgent) -> None:
    stack = make_stack("a-sealed", SecretSpec("A", "password"))
    agent = make_agent(stack, {"A": "one"})
    wait_for(agent.rendered, "the file")
    ready.root().client.call(lambda api: api.sys.seal())
    wait_for(lambda: "Vault is sealed" in agent.log.read_text(), "the agent's complaint")
    assert agent.alive()
    ready.server.restart()
    _answered(ready)
    ready.store().merge(stack.name, {"A": "two"})
    wait_for(lambda: "A='two'" in agent.rendered(), "the new value")


def _revoke_logins(api: Any) -> None:
    for accessor in api.auth.token.list_accessors()["data"]["keys"]:
        if api.auth.token.lookup_accessor(accessor)["data"]["display_name"] == "approle":
            api.auth.token.revoke_accessor(accessor)


def test_a_token_that_ended_is_replaced(ready: Ready, make_agent: MakeAgent) -> None:
    """Revoked: the agent notices when it renews its token, so a role's tokens are short-lived; here even shorter."""
    stack = make_stack("a-ended", SecretSpec("A", "password"))
    agent = make_agent(stack, {"A": "one"}, start=False)
    name = admit(ready.vault, stack)
    ready.vault.client.call(lambda api: api.auth.approle.create_or_update_approle(name, token_ttl=10))
    agent.start()
    wait_for(agent.rendered, "the file")
    ready.root().client.call(_revoke_logins)
    wait_for(lambda: "permission denied" in agent.log.read_text(), "the agent's complaint")
    ready.store().merge(stack.name, {"A": "two"})
    wait_for(lambda: "A='two'" in agent.rendered(), "the new value")


def test_a_login_that_was_ended_is_replaced_by_file(ready: Ready, make_agent: MakeAgent) -> None:
    """The agent reads its secret-id file anew at every login: a new file is enough, with no restart."""
    stack = make_stack("a-login", SecretSpec("A", "password"))
    agent = make_agent(stack, {"A": "one"}, start=False)
    name = admit(ready.vault, stack)
    good = (agent.folder / "approle" / "secret-id").read_text()
    (agent.folder / "approle" / "secret-id").write_text("00000000-0000-0000-0000-000000000000")
    agent.start()
    wait_for(lambda: "error authenticating" in agent.log.read_text(), "the agent's complaint")
    assert ready.vault.secret_id_works(name, Secret(good))
    (agent.folder / "approle" / "secret-id").write_text(good)
    wait_for(agent.rendered, "the file")


def _refusals(agent: Agent) -> int:
    return agent.log.read_text().count("connection refused")


def _refused_again(agent: Agent, before: int) -> None:
    wait_for(lambda: _refusals(agent) > before, "a failed read")


def _answered(ready: Ready) -> None:
    wait_for(lambda: _status(ready.vault), "Vault")


def _status(vault: Vault) -> bool:
    try:
        return vault.status().ready
    except PlatformError:
        return False
