"""The entrypoint alone: waits, says what for, watches, and stays out of the way of health checks."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from .bao import ROOT, running, wait_for

ENTRYPOINT = str(ROOT / "vault" / "entrypoint.sh")
SHELLS = (["/bin/dash"], ["/bin/busybox", "sh"])


@pytest.fixture(params=SHELLS, ids=lambda shell: Path(shell[0]).name)
def shell(request: pytest.FixtureRequest) -> list[str]:
    return list(request.param)


def _start(shell: list[str], file: Path, log: Path, *words: str, **env: str) -> subprocess.Popen[bytes]:
    variables = {"PATH": "/usr/bin:/bin", "SECRETS_FILE": str(file), **env}
    with log.open("ab") as output:
        return subprocess.Popen([*shell, ENTRYPOINT, *words], env=variables, stdout=output, stderr=output)


def test_it_waits_and_says_so(shell: list[str], tmp_path: Path) -> None:
    file, log = tmp_path / "env", tmp_path / "log"
    process = _start(shell, file, log, "/bin/sh", "-c", 'echo "got $A"')
    wait_for(lambda: f"waiting for secrets in {file}" in log.read_text(), "a word")
    assert process.poll() is None
    file.write_text("A='it'\\''s'\n")
    assert process.wait(60) == 0
    assert "got it's" in log.read_text()


def test_a_stop_ends_the_wait(shell: list[str], tmp_path: Path) -> None:
    process = _start(shell, tmp_path / "env", tmp_path / "log", "/bin/true")
    wait_for(lambda: (tmp_path / "log").read_text(), "a word")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143


def test_the_program_gets_the_pid_and_the_signals(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "env").write_text("A='x'\n")
    process = _start(shell, tmp_path / "env", tmp_path / "log", "/bin/sleep", "600", SECRETS_WATCH="1")
    _became_sleep(process)
    # Not even a child of its own: PostgreSQL takes an unknown one's end for a crash.
    assert psutil.Process(process.pid).children() == []
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == -signal.SIGTERM


def _watchers(file: Path) -> list[psutil.Process]:
    found = []
    for each in psutil.process_iter():
        try:
            if ENTRYPOINT in each.cmdline() and each.environ().get("SECRETS_FILE") == str(file):
                found.append(each)
        except psutil.Error:
            continue
    return found


def test_the_watcher_ends_with_the_program(shell: list[str], tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("A='hushed'\n")
    process = _start(shell, file, tmp_path / "log", "/bin/sleep", "600", SECRETS_WATCH="1")
    _became_sleep(process)
    (watcher,) = wait_for(lambda: _watchers(file), "the watcher")
    for each in (watcher, *watcher.children()):
        assert "hushed" not in " ".join([*each.cmdline(), *each.environ().values()])
    process.kill()
    process.wait()
    wait_for(lambda: not running(watcher.pid), "the watcher's end")


def test_nobody_watches_unasked(shell: list[str], tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("A='x'\n")
    for env in ({}, {"SECRETS_WATCH": "0"}, {"SECRETS_WATCH": ""}):
        process = _start(shell, file, tmp_path / "log", "/bin/sleep", "600", **env)
        _became_sleep(process)
        assert _watchers(file) == []
        process.kill()
        process.wait()


def test_a_file_that_is_away_or_as_it_was_ends_nothing(shell: list[str], tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("A='x'\n")
    process = _start(shell, file, tmp_path / "log", "/bin/sleep", "600", SECRETS_WATCH="1")
    _became_sleep(process)
    (watcher,) = wait_for(lambda: _watchers(file), "the watcher")
    file.unlink()
    _rounds(watcher)
    file.write_text("")
    _rounds(watcher)
    file.write_text("A='x'\n")
    _rounds(watcher)
    assert process.poll() is None
    file.write_text("A='y'\n")
    assert process.wait(60) == -signal.SIGTERM


def _rounds(watcher: psutil.Process) -> None:
    """Until it has looked at least once: its sleep is another one twice."""
    for _ in range(2):
        _next_child(watcher, {child.pid for child in watcher.children()})


def _next_child(watcher: psutil.Process, seen: set[int]) -> None:
    wait_for(lambda: {child.pid for child in watcher.children()} - seen, "the watcher's next round")


def _became_sleep(process: subprocess.Popen[bytes]) -> None:
    wait_for(lambda: psutil.Process(process.pid).name() == "sleep", "the program")


def test_a_file_that_may_not_be_read_is_told(shell: list[str], tmp_path: Path) -> None:
    """As another user than the file's; for an ordinary user its own 0000 file will do."""
    file, log = tmp_path / "env", tmp_path / "log"
    file.write_text("A='x'\n")
    file.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        if folder.owner() == "root" and os.geteuid() == 0:
            folder.chmod(0o755)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*shell, ENTRYPOINT, "/bin/true"],
            env={"PATH": "/usr/bin:/bin", "SECRETS_FILE": str(file)},
            stderr=output,
            user=65534 if os.geteuid() == 0 else None,
        )
    wait_for(lambda: "it is there, but user" in log.read_text(), "a word")
    process.terminate()
    process.wait()
