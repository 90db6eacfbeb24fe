"""Bad input, interruptions and two people at once: a clear error or convergence, and nothing lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from .conftest import USER, Clone, free_ports

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def state(platform: Clone) -> Iterator[Path]:
    yield platform.root / ".state" / "local"
    platform.write()


def test_a_taken_port_names_its_holder_and_changes_nothing(platform: Clone) -> None:
    before = platform.pids()
    listen = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); time.sleep(300)"
    command = ["/usr/bin/env", "python3", "-c", listen]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, user=USER, cwd="/") as holder:
        try:
            assert holder.stdout is not None
            port = holder.stdout.readline().strip()
            refused = platform.invoke("prefect.setup", code=3, INVOKE_PLATFORM_PREFECT_PORT=port)
        finally:
            holder.kill()
    assert f"port {port} (prefect-server) is taken by python" in refused.stderr
    assert f"pid {holder.pid}" in refused.stderr
    assert platform.pids() == before


def test_a_corrupt_state_file_is_said_and_kept(platform: Clone, state: Path) -> None:
    file = state / "services.json"
    good = file.read_text()
    try:
        file.write_text(good[: len(good) // 2])
        refused = platform.invoke("prefect.setup", code=1)
        assert "corrupt" in refused.stderr
        assert "mv " in refused.stderr
        assert file.read_text() == good[: len(good) // 2]
    finally:
        file.write_text(good)


def test_a_missing_lock_is_said_with_the_command_that_restores_it(platform: Clone) -> None:
    lock = platform.root / "requirements" / "runtime.txt"
    away = lock.rename(lock.with_suffix(".away"))
    try:
        refused = platform.invoke("prefect.setup", code=3)
    finally:
        away.rename(lock)
    assert str(lock) in refused.stderr
    assert "git checkout" in refused.stderr


def test_a_read_only_state_folder_is_said(platform: Clone) -> None:
    folder = platform.home / "read-only"
    (folder / "local").mkdir(parents=True)
    for path in (folder, folder / "local"):
        path.chmod(0o555)
    refused = platform.invoke("prefect.setup", code=3, INVOKE_PLATFORM_STATE=str(folder))
    assert f"{folder}" in refused.stderr
    assert "platform.state" in refused.stderr
    assert not list((folder / "local").iterdir())


def test_a_full_disk_is_said_before_anything_is_written(platform: Clone) -> None:
    folder = platform.home / "small"
    folder.mkdir()
    script = f'mount -t tmpfs -o size=20m,mode=777 none {folder} && exec setpriv --reuid {USER or os.getuid()} --clear-groups "$@"'
    command = ["unshare", *([] if USER else ["-r"]), "-m", "sh", "-c", script, "sh"]
    env = {"PATH": os.environ["PATH"], "HOME": str(platform.home), "INVOKE_PLATFORM_STATE": str(folder)}
    done = subprocess.run(
        [*command, str(platform.root / "invoke"), "prefect.setup"],
        env=env,
        cwd=platform.home,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 3, done.stderr
    assert "MiB free" in done.stderr
    assert "nothing was changed" in done.stderr


def test_a_damaged_database_is_refused_and_set_aside_only_when_asked(platform: Clone, state: Path) -> None:
    database = state / "data" / "prefect" / "prefect.db"
    platform.invoke("prefect.stop")
    damaged = b"not a database, yet somebody's" + os.urandom(4096)
    kept = database.read_bytes()
    database.write_bytes(damaged)
    for task in ("prefect.setup", "prefect.plan"):
        refused = platform.invoke(task, code=3)
        assert str(database) in refused.stderr
        assert "is not a SQLite database" in refused.stderr
        assert "prefect.set-database-aside" in refused.stderr
    assert database.read_bytes() == damaged
    assert "--yes" in platform.invoke("prefect.set-database-aside", code=2).stderr
    (aside,) = platform.invoke("prefect.set-database-aside", "--yes").stdout.split()
    assert Path(aside).read_bytes() == damaged
    platform.invoke("prefect.setup")
    assert platform.status()["healthy"]
    assert database.read_bytes() != kept
    assert Path(aside).read_bytes() == damaged


def test_two_setups_at_once_both_succeed_one_after_the_other(platform: Clone) -> None:
    platform.settings["prefect"]["retention_days"] = 51
    platform.write()
    both = [platform.start("prefect.setup") for _ in range(2)]
    errors = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert sum("waiting for prefect.setup (pid " in text for text in errors) == 1
    assert sum("nothing changed" in text for text in errors) == 1


def test_a_setup_that_may_not_wait_says_who_is_at_work(platform: Clone, state: Path) -> None:
    with subprocess.Popen(["flock", str(state / "lock"), "sleep", "60"], start_new_session=True) as holder:
        try:
            time.sleep(0.5)
            refused = platform.invoke("prefect.setup", "--wait", "1", code=4)
            assert "in use by" in refused.stderr
        finally:
            os.killpg(holder.pid, signal.SIGKILL)


def test_an_interrupted_setup_converges_when_run_again(platform: Clone) -> None:
    """Ctrl-C and SIGKILL at random moments of a first setup and of a change; then one setup, and it is healthy."""
    environment = {
        "gateway": dict(zip(("port", "verifier_port", "auth_port", "ops_port"), free_ports(4), strict=True)),
        "prefect": {"port": free_ports(1)[0], "retention_days": 1},
    }
    platform.settings["environments"] = {"second": environment}
    chance = random.Random(seed := time.time_ns())
    print(f"seed {seed}")
    try:
        for number in range(8):
            environment["prefect"]["retention_days"] = number + 1
            platform.write()
            process = platform.start("prefect.setup", "--env", "second")
            time.sleep(chance.uniform(0.3, 9))
            sent = chance.choice((signal.SIGINT, signal.SIGKILL))
            os.killpg(process.pid, sent)
            text = process.communicate(timeout=120)[1]
            assert "Traceback" not in text, (sent, text)
        environment["prefect"]["retention_days"] = 99
        platform.write()
        platform.invoke("prefect.setup", "--env", "second")
        assert "nothing changed" in platform.invoke("prefect.setup", "--env", "second").stderr
        platform.invoke("prefect.status", "--env", "second")
        assert platform.status()["healthy"]  # the environment beside it noticed nothing
    finally:
        platform.invoke("prefect.remove", "--env", "second", "--yes", "--data", code=None)
        del platform.settings["environments"]
        platform.write()
    marked = str(platform.root / ".state" / "second")
    left = [each.pid for each in psutil.process_iter(["environ"]) if marked in str(each.info["environ"])]
    assert left == []
