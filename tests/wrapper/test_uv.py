"""uv installs environments, from where pip would; pip does where uv cannot."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from prefect_platform.errors import PreflightError
from prefect_platform.venvs import index_settings, make, pip_install

from .conftest import Clone, tiny_lock

NOBODY = 65534


def installer(venv: Path, package: str = "invoke") -> str:
    (file,) = venv.glob(f"lib/python*/site-packages/{package}-*.dist-info/INSTALLER")
    return file.read_text().strip()


@pytest.mark.slow
def test_uv_installs_a_lock_that_has_uv(clone: Clone) -> None:
    """From nothing: pip fetches uv, uv installs and compiles the rest, and no scratch files are left."""
    clone.lock.write_text(tiny_lock("uv"))
    first = clone.run("where")
    assert first.returncode == 0, first.stderr
    venv = clone.root / ".venv"
    assert (installer(venv, "uv"), installer(venv)) == ("pip", "uv")
    assert list(venv.glob("lib/python*/site-packages/invoke/__pycache__/program.*.pyc"))
    assert not (venv / ".uv").exists()
    for script in ("invoke", "uv"):
        subprocess.run([str(venv / "bin" / script), "--version"], capture_output=True, check=True)


def test_pip_installs_where_no_lock_has_uv(ready: Clone) -> None:
    assert installer(ready.root / ".venv") == "pip"


@dataclass(frozen=True)
class Locks:
    """A lock without uv, and beside it the operator's, which may have it."""

    folder: Path

    def write(self, lock: str, operator: str) -> None:
        (self.folder / "other.txt").write_text(lock)
        (self.folder / "operator.txt").write_text(operator)

    def install(self) -> str:
        """Create an environment; returns what installed it."""
        make.ensure(self.folder / "env", self.folder / "other.txt", lambda _: None)
        return installer(self.folder / "env")


@pytest.fixture
def locks(tmp_path: Path) -> Locks:
    made = Locks(tmp_path)
    made.write(tiny_lock(), tiny_lock("uv"))
    return made


def test_uv_of_the_running_environment_installs_other_locks(locks: Locks) -> None:
    assert locks.install() == "uv"
    assert not list(locks.folder.glob("env/lib/python*/site-packages/uv*"))


@pytest.mark.slow
def test_uv_is_fetched_for_a_lock_without_it(
    locks: Locks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "no uv here"))
    assert locks.install() == "uv"
    assert not list(locks.folder.glob("env/lib/python*/site-packages/uv*"))
    assert not (locks.folder / "env" / ".uv").exists()


def test_pip_installs_where_uv_has_no_wheel(locks: Locks) -> None:
    """A version that does not exist: pip finds as little as on a system that uv has no wheel for."""
    locks.write(tiny_lock(), f"uv==0.0.0 \\\n    --hash=sha256:{'0' * 64}\n")
    assert locks.install() == "pip"


def fake_uv(folder: Path, then: str) -> Path:
    """An environment's folder whose uv has the right version, and then runs `then`."""
    version = tiny_lock("uv").split("uv==")[1].split()[0]
    program = folder / "bin" / "uv"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$1" != --version ] || {{ echo uv {version}; exit; }}\n{then}\n')
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    "then", ["echo 'error: odd index'; exit 2", "echo 'Permission denied: .cache/uv'; exit 2", "kill -ILL $$"]
)
def test_pip_installs_where_only_uv_fails(
    locks: Locks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    monkeypatch.setattr(sys, "prefix", str(fake_uv(tmp_path, then)))
    assert locks.install() == "pip"


@pytest.mark.parametrize(
    ("output", "hint"),
    [("No space left on device (os error 28)", "free some disk space"), ("operation timed out", "network")],
)
def test_what_would_stop_pip_too_is_reported_at_once(
    locks: Locks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, hint: str
) -> None:
    monkeypatch.setattr(sys, "prefix", str(fake_uv(tmp_path, f"echo 'error: {output}' >&2; exit 2")))
    with pytest.raises(PreflightError, match=r"^uv failed") as raised:
        locks.install()
    assert output in raised.value.message
    assert hint in str(raised.value.hint)


def test_a_hash_mismatch_names_the_lock(locks: Locks) -> None:
    lock = tiny_lock()
    locks.write(f"{lock[: lock.index('sha256:')]}sha256:{'0' * 64}\n", tiny_lock("uv"))
    with pytest.raises(PreflightError, match=r"^uv failed(?s:.)*(?i:hash)") as raised:
        locks.install()
    assert "a package differs from the lock" in str(raised.value.hint)
    assert not (locks.folder / "env.new").exists()


def only_index(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """pip's settings are an index, whatever this machine has, and no cache."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", url)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")


def test_without_a_network_uv_names_the_index_of_pip(locks: Locks, monkeypatch: pytest.MonkeyPatch) -> None:
    only_index(monkeypatch, "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:8/not-this")
    with pytest.raises(PreflightError, match=r"127\.0\.0\.1:9") as raised:
        locks.install()
    assert raised.value.message.startswith("uv failed")
    assert "the package index does not answer" in str(raised.value.hint)


class Refusing(http.server.BaseHTTPRequestHandler):
    """An index that wants a login."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.headers["User-Agent"].split("/")[0])
        self.send_error(401)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_pip_is_asked_where_the_index_refuses_uv(locks: Locks, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip may find a login that uv does not (a keyring); if not, the error is pip's. The password is in no output."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        only_index(monkeypatch, f"http://user:pass-word@127.0.0.1:{server.server_port}/simple")
        with pytest.raises(PreflightError, match=r"^pip failed") as raised:
            locks.install()
        server.shutdown()
    assert {"uv", "pip"} <= set(Refusing.asked)
    assert "pass-word" not in raised.value.message + str(raised.value.hint)


def test_no_file_of_an_environment_is_linked_to_the_cache(
    locks: Locks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a program that changes its own packages would change those of every other environment."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    assert locks.install() == "uv"
    cached = list((tmp_path / "cache").rglob("invoke/program.py"))
    installed = list(locks.folder.glob("env/lib/python*/site-packages/invoke/program.py"))
    assert [file.stat().st_nlink for file in (*cached, *installed)] == [1, 1]
    others = [file for file in (locks.folder / "env").rglob("*") if file.stat().st_mode & 0o022]
    assert [file for file in others if not file.is_symlink()] == [], "only we may write there"


def test_progress_reports_what_uv_does_next(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(pip_install, "QUIET_SECONDS", 0.0)
    progress = pip_install.Progress(said.append, "env")
    progress.tick()
    said.clear()
    for line in (
        "Resolved 110 packages in 788ms",
        "Prepared 110 packages in 9s",
        "Installed 1 package in 1s",
    ):
        progress.line(line)
    assert said == [
        "env: downloading 110 packages …",
        "env: installing 110 packages …",
        "env: compiling 1 packages …",
    ]


def test_uv_gets_the_settings_of_pip(tmp_path: Path) -> None:
    listing = f"""\
global.index-url='https://user:word@index.example/simple'
global.extra-index-url='\\nhttps://a.example/simple\\nhttps://b.example/simple'
global.find-links='{tmp_path} /gone'
install.trusted-host='index.example'
global.timeout='5'
:env:.timeout='60'
:env:.no-index=''
:env:.cert='/etc/ca.pem'
a warning of pip
"""
    found = index_settings.for_uv(index_settings.read(listing), {"REQUESTS_CA_BUNDLE": "/etc/other.pem"})
    assert found
    assert found.environ == {
        "UV_DEFAULT_INDEX": "https://user:word@index.example/simple",
        "UV_INDEX": "https://a.example/simple https://b.example/simple",
        "UV_FIND_LINKS": str(tmp_path),
        "UV_INSECURE_HOST": "index.example",
        "UV_HTTP_TIMEOUT": "60",
        "SSL_CERT_FILE": "/etc/ca.pem",
    }
    assert found.options == ()
    isolated = index_settings.for_uv({"no-index": "true", "proxy": "http://p:1"}, {})
    assert isolated
    assert "--no-index" in isolated.options
    assert isolated.environ["HTTPS_PROXY"] == "http://p:1"


@pytest.mark.parametrize("setting", ["client-cert", "keyring-provider"])
def test_settings_that_uv_does_not_have_keep_pip(setting: str) -> None:
    assert index_settings.for_uv({setting: "subprocess"}, {}) is None


def test_uv_keeps_its_cache_where_pip_would(tmp_path: Path) -> None:
    assert index_settings.may_cache({}, {"UV_CACHE_DIR": str(tmp_path / "not yet" / "there")})
    assert index_settings.may_cache({}, {"XDG_CACHE_HOME": str(tmp_path)})
    assert not index_settings.may_cache({"no-cache-dir": "1"}, {"UV_CACHE_DIR": str(tmp_path)})


MAY_CACHE_AS = """
import os, sys
from prefect_platform.venvs.index_settings import may_cache
if os.geteuid() == 0:
    os.setuid(int(sys.argv[2]))
print(may_cache({}, {"XDG_CACHE_HOME": sys.argv[1]}))
"""


def test_a_home_that_is_closed_to_us_gets_no_cache(tmp_path: Path) -> None:
    """A service user whose HOME is root's, for example."""
    home = tmp_path / "home"
    home.mkdir(mode=0)
    words = [sys.executable, "-c", MAY_CACHE_AS, str(home / ".cache"), str(NOBODY)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_root_writes_into_no_cache_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"UV_CACHE_DIR": str(tmp_path / "uv")}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert index_settings.may_cache({}, environ) == (tmp_path.stat().st_uid == 0)
    if os.getuid() == 0:
        os.chown(tmp_path, NOBODY, NOBODY)
        assert not index_settings.may_cache({}, environ)
