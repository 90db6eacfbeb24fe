"""`prefect.connect`: a user's own Prefect commands come to the platform, and with `prefect.disconnect` do so no more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from .client import of_our_worker
from .conftest import Clone

pytestmark = pytest.mark.timeout(300)
MINE = """# a comment of mine
active = "work"

[profiles.work]
PREFECT_API_URL = "https://elsewhere.example.com/api"
"""
GH = """#!/bin/sh
# What `gh secret|variable set|list|delete` do (its manual): a value comes by standard input, --json prints names, and of variables
# values.
echo "$*" >>"$0.calls"
cd "$(dirname "$0")"
case "$2" in
set) cat >"gh.$1.$3" ;;
list) for f in gh.$1.PREFECT_*; do
    [ -e "$f" ] && printf '{"name":"%s"' "${f#gh.$1.}" && { [ "$1" = secret ] || printf ',"value":"%s"' "$(cat "$f")"; } && printf '},'
  done | sed 's/^/[/;s/,$/]/' ;;
delete) rm "gh.$1.$3" ;;
esac
"""


@pytest.fixture
def home(platform: Clone) -> Iterator[Path]:
    """A PREFECT_HOME with a profile of the user's own."""
    made = platform.root / "prefect-home"
    made.mkdir()
    (made / "profiles.toml").write_text(MINE)
    owner = platform.root.stat()
    for path in (made, made / "profiles.toml"):
        os.chown(path, owner.st_uid, owner.st_gid)
    yield made
    shutil.rmtree(made)


def _prefect(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environ = {**clean, "PREFECT_HOME": str(home), "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "prefect", *words], env=environ, capture_output=True, text=True, timeout=120
    )


def test_a_profile_of_ones_own_and_back(platform: Clone, home: Path) -> None:
    file = home / "profiles.toml"
    done = platform.invoke("prefect.connect", PREFECT_HOME=str(home))
    assert "is active" in done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    profile = tomllib.loads(file.read_text())["profiles"]["platform-local"]
    assert of_our_worker(platform.root).items() <= profile.items()
    token = json.loads(profile["PREFECT_CLIENT_CUSTOM_HEADERS"])["Authorization"].removeprefix("Bearer ")
    assert token not in done.stdout + done.stderr
    shown = _prefect(home, "deployment", "ls")
    assert "platform-canary/canary" in shown.stdout, shown.stderr
    assert "# a comment of mine" in file.read_text()
    before = file.read_text()
    assert "nothing changed" in platform.invoke("prefect.connect", PREFECT_HOME=str(home)).stderr
    assert file.read_text() == before

    platform.invoke("prefect.disconnect", PREFECT_HOME=str(home))
    left = tomllib.loads(file.read_text())
    assert left["active"] == "ephemeral"
    assert list(left["profiles"]) == ["work"]
    assert "# a comment of mine" in file.read_text()
    ask = f"{platform.url}/prefect/api/admin/version"
    _until_refused(ask, {"Authorization": f"Bearer {token}"})
    assert "platform-canary" not in _prefect(home, "deployment", "ls").stdout


def _until_refused(url: str, headers: dict[str, str]) -> None:
    """The gateway remembers a good token for some seconds."""
    end = time.monotonic() + 8
    while httpx.get(url, headers=headers).status_code != 401:
        assert time.monotonic() < end, "let in 8 s after the token was revoked"
        time.sleep(0.1)


def test_a_file_that_is_not_toml_is_left_alone(platform: Clone, home: Path) -> None:
    (home / "profiles.toml").write_text("active = [")
    said = platform.invoke("prefect.connect", code=1, PREFECT_HOME=str(home)).stderr
    assert "nothing was changed" in said
    assert (home / "profiles.toml").read_text() == "active = ["


def test_the_secrets_of_a_repository(platform: Clone, home: Path) -> None:
    gh = home / "gh"
    gh.write_text(GH)
    gh.chmod(0o755)
    path = f"{home}:{os.environ['PATH']}"
    connect = ("prefect.connect", "--github", "example/app")
    platform.invoke(*connect, PATH=path)
    assert (home / "gh.secret.PREFECT_API_URL").read_text() == f"{platform.url}/prefect/api"
    headers = json.loads((home / "gh.secret.PREFECT_CLIENT_CUSTOM_HEADERS").read_text())
    given = {each.name.removeprefix("gh.variable."): each.read_text() for each in home.glob("gh.variable.*")}
    assert given == of_our_worker(platform.root)
    ask = f"{platform.url}/prefect/api/admin/version"
    assert httpx.get(ask, headers=headers).status_code == 200
    assert headers["Authorization"].removeprefix("Bearer ") not in (home / "gh.calls").read_text()
    assert "nothing changed" in platform.invoke(*connect, PATH=path).stderr
    # As it is after a change of heartbeat_seconds.
    (home / "gh.variable.PREFECT_FLOWS_HEARTBEAT_FREQUENCY").write_text("3600")
    said = platform.invoke(*connect, PATH=path).stderr
    assert "now has the variables PREFECT_FLOWS_HEARTBEAT_FREQUENCY" in said
    platform.invoke("prefect.disconnect", "--github", "example/app", PATH=path)
    assert not list(home.glob("gh.*.PREFECT_*"))
    _until_refused(ask, headers)
    bare = str(home / "nothing")
    without = platform.invoke(*connect, code=3, PATH=f"{bare}:/usr/local/bin:/usr/bin:/bin")
    assert "gh is not installed" in without.stderr
