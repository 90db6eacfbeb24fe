"""Each folder and file that we make has its mode set, whatever the umask, and a link that another user made is not followed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform.config import state_folder
from prefect_platform.errors import PreflightError
from prefect_platform.files import close_to_others, make_private, write_atomic
from prefect_platform.targets.docker.host import Host
from prefect_platform.targets.docker.runner import LocalRunner, SshRunner
from prefect_platform.venvs import make

from .rules import FakeHost


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_private_folder_and_its_parents_are_private(tmp_path: Path, umask: int) -> None:
    made = tmp_path / "a" / "b" / "c"
    make_private(made)
    write_atomic(made / "d" / "file", b"content")
    for folder in (made / "d", made, made.parent, made.parent.parent):
        assert _mode(folder) == 0o700, folder
    assert _mode(made / "d" / "file") == 0o600


def test_a_folder_left_open_is_closed_and_one_that_is_not_ours_is_left(tmp_path: Path) -> None:
    ours, link = tmp_path / "ours", tmp_path / "link"
    ours.mkdir()
    ours.chmod(0o777)
    link.symlink_to(ours)
    close_to_others(link)
    assert _mode(ours) == 0o777
    close_to_others(ours)
    assert _mode(ours) == 0o755


@pytest.mark.parametrize("umask", [0o000, 0o077], indirect=True)
def test_on_a_host_containers_read_and_nobody_writes(fake: FakeHost, umask: int) -> None:
    root = fake.root / "new" / "stack"
    host = Host(fake.runner, str(root))
    host.lay(str(root / "releases/1"), {"files/abc/program.py": b"", "compose.yml": b""})
    host.append(str(root / "history.jsonl"), "{}")
    with host.lock(str(root / "locked"), "a test", 0, fake.said.append):
        pass
    places = [root.parent, root, *root.rglob("*")]
    assert len(places) > 8
    assert {_mode(place) for place in places} == {0o755, 0o644}


@pytest.mark.parametrize("umask", [0o000, 0o077], indirect=True)
def test_every_way_to_start_a_command_here_sets_the_umask(
    umask: int, capfd: pytest.CaptureFixture[str]
) -> None:
    runner, words = LocalRunner(), ["sh", "-c", "umask"]
    said = [runner.run(words).text.strip()]
    with runner.start(words) as process:
        assert process.stdout
        said.append(process.stdout.read().decode().strip())
    with runner.connect(words) as connection:
        said.append(connection.makefile().read().strip())
    runner.stream(words)
    said.append(capfd.readouterr().out.strip())
    assert said == ["0022"] * 4


def test_a_command_over_ssh_sets_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remote shell gets it with the command; what `ssh` gets last is what that shell runs."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nfor last; do :; done\numask 000\nexec sh -c "$last"\n')
    ssh.chmod(0o700)
    assert SshRunner("host").run(["sh", "-c", "umask"]).text.strip() == "0022"


def test_a_link_in_place_of_the_connections_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (tmp_path / f"prefect-platform-{os.getuid()}").symlink_to(elsewhere)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(PreflightError, match="not owned by this user alone"):
        SshRunner("host")


def test_a_state_folder_behind_another_users_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    assert state_folder.wrong(tmp_path / "clone", str(link)) == ""
    for place in (link, link / "below"):
        assert state_folder.link_of_another(place, {os.geteuid()}) == ""
        assert state_folder.link_of_another(place, {os.geteuid() + 1}) == str(link)


def test_an_environment_is_closed_whatever_its_packages_modes(tmp_path: Path) -> None:
    new, venv = tmp_path / "venv.new", tmp_path / "venv"
    package = (
        new / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages" / "package"
    )
    package.mkdir(parents=True)
    (new / "bin").mkdir()
    (new / "bin" / "python").symlink_to(sys.executable)
    (new / "pyvenv.cfg").write_text("")
    (package / "module.py").write_text("")
    subprocess.run(["chmod", "-R", "a+rwX", str(new)], check=True)
    make._finish(new, make._Plan(venv, tmp_path / "lock", b"lock", ("../../../../src",), sealed=False))
    assert not [place for place in (new, *new.rglob("*")) if not place.is_symlink() and _mode(place) & 0o022]
    new.rename(venv)
    assert make.is_current(venv, b"lock")
    venv.chmod(0o777)
    assert not make.is_current(venv, b"lock"), "any user may have changed it"
