"""Bad input: one clear paragraph, an exit code that says which kind, and nothing changed or lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from .conftest import USER, Clone
from .refusal import refused, state_of, traces

pytestmark = pytest.mark.timeout(600)


@contextmanager
def _instead(file: Path, content: bytes | None) -> Iterator[Path]:
    """The file with other content, or (None) gone; as it was afterwards."""
    away = file.with_name(f"{file.name}.kept-by-test")
    shutil.copy2(file, away)
    if USER:
        shutil.chown(away, USER)
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    try:
        yield file
    finally:
        away.replace(file)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"gateway": {"prot": 1}}, "platform.gateway.prot: unknown key; did you mean 'port'?"),
        ({"prefect": {"retention_days": "many"}}, "platform.prefect.retention_days: 'many' is not"),
    ],
)
def test_a_wrong_setting_is_named_with_its_line(
    platform: Clone, section: dict[str, object], message: str
) -> None:
    before = traces(platform)
    with _instead(platform.root / "invoke.yaml", yaml.safe_dump({"platform": section}).encode()):
        for task in ("prefect.setup", "prefect.status"):
            said = refused(platform, task, code=2)
            assert said.startswith("invoke.yaml:3: ")
            assert message in said
    assert traces(platform) == before


REFUSED = [
    (["--scope", "prefct"], "--scope 'prefct': no such scope"),
    (["--scope", "prefect  metrics"], "--scope '': no such scope"),
    (["--expires", "10y"], "gateway.create-token: --expires '10y': must be a number and s, m, h, d or w"),
    (["--expires=-1d"], "gateway.create-token: --expires '-1d': must be a number and s, m, h, d or w"),
    (["--expires", "300w"], "gateway.create-token: --expires 300w: at most 5 years"),
    (["--description", "two\nlines"], "gateway.create-token: --description: at most 200"),
]


def test_what_the_gateway_refuses_is_bad_input_as_elsewhere(platform: Clone) -> None:
    for words, message in REFUSED:
        said = refused(platform, "gateway.create-token", "--project=refused", "--service=s", *words, code=2)
        assert said.startswith(message)
        if words[0] == "--scope":
            assert "hint: scopes: prefect, prefect:read, metrics; a route in platform.gateway.routes" in said
    assert "refused/s" not in platform.invoke("gateway.list-tokens", "--all").stdout
    assert refused(platform, "gateway.revoke-token", "0" * 12, code=2).startswith("gateway.revoke-token: ")


def test_a_taken_port_names_its_holder(platform: Clone) -> None:
    before = traces(platform)
    listen = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); time.sleep(300)"
    command = ["/usr/bin/env", "python3", "-c", listen]
    # Of the platform's own user and group: another one's process it can only say to be another user's.
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        user=USER,
        group="nogroup" if USER else None,
        extra_groups=[] if USER else None,
    ) as holder:
        try:
            assert holder.stdout is not None
            port = holder.stdout.readline().strip()
            said = refused(platform, "prefect.setup", code=3, INVOKE_PLATFORM_PREFECT_PORT=port)
        finally:
            holder.kill()
    assert f"port {port} (prefect-server) is taken by python3" in said
    assert f"(pid {holder.pid})" in said
    assert traces(platform) == before


def test_a_read_only_state_folder_is_said(platform: Clone) -> None:
    folder = platform.home / "read-only"
    (folder / "local").mkdir(parents=True)
    for path in (folder / "local", folder):
        path.chmod(0o555)
    said = refused(platform, "prefect.setup", code=3, INVOKE_PLATFORM_STATE=str(folder))
    assert str(folder) in said
    assert "platform.state" in said
    assert not list((folder / "local").iterdir())


@pytest.mark.parametrize("name", ["runtime.txt", "operator.txt"])
def test_a_lock_that_is_missing_or_cut_off_is_said(platform: Clone, name: str) -> None:
    before = traces(platform)
    for content in (None, b"# begun\n") if name == "runtime.txt" else (None,):
        with _instead(platform.root / "requirements" / name, content) as lock:
            said = refused(platform, "prefect.setup", code=3)
        assert str(lock) in said
        assert "checkout -- requirements" in said
    assert traces(platform) == before


@pytest.mark.parametrize("content", [b'{"prefect-server": {"fac', b"\xff\xfe\x00", b'{"prefect-server": {}}'])
def test_a_corrupt_state_file_is_said_and_kept(platform: Clone, content: bytes) -> None:
    before = platform.pids()
    with _instead(state_of(platform) / "services.json", content) as file:
        for task in ("prefect.setup", "prefect.status"):
            said = refused(platform, task, code=1)
            assert said.startswith(f"{file}: corrupt")
            assert f"mv {file} " in said
        assert file.read_bytes() == content
    assert platform.pids() == before


@pytest.mark.parametrize("stack", ["prefect", "gateway", "operator"])
def test_corrupt_secrets_are_said_and_kept(platform: Clone, stack: str) -> None:
    before = traces(platform)
    for content in (b'{"GATEWAY_SIGNING_KEYS": "[{', b"\xff\xfe\x00", b"[]", b'{"CHECK_TOKEN": 5}'):
        with _instead(state_of(platform) / "secrets" / f"{stack}.json", content) as file:
            said = refused(platform, "prefect.setup", code=1)
            assert said.startswith(f"{file}: corrupt")
            assert "nothing was changed" in said
            assert f"mv {file} " in said
            assert file.read_bytes() == content
    assert traces(platform) == before


def test_a_damaged_database_is_refused_and_set_aside_only_when_asked(platform: Clone) -> None:
    database = state_of(platform) / "data" / "prefect" / "prefect.db"
    platform.invoke("prefect.stop")
    link = platform.invoke("gateway.login-url", code=1)
    assert link.stdout == ""
    assert "environment 'local' is not running: a link would lead nowhere" in link.stderr
    assert "./invoke prefect.setup" in link.stderr
    damaged = b"not a database, yet somebody's" + os.urandom(4096)
    database.write_bytes(damaged)
    for task in ("prefect.setup", "prefect.plan"):
        said = refused(platform, task, code=3)
        assert f"{database}: is not a SQLite database" in said
        assert "prefect.set-database-aside --yes" in said
    assert "--yes" in refused(platform, "prefect.set-database-aside", code=2)
    assert database.read_bytes() == damaged
    kept = platform.invoke("prefect.set-database-aside", "--yes").stdout.split()
    platform.invoke("prefect.setup")
    assert platform.status()["healthy"]
    assert damaged in [Path(file).read_bytes() for file in kept]
    assert database.read_bytes().startswith(b"SQLite format 3")
