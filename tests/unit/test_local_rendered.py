"""Target local, with a real supervisord: what setup makes on the machine is in the plan when it was lost or changed, and comes back
without a restart.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from prefect_platform.config.rules import port_keys
from prefect_platform.config.stack import SecretSpec
from prefect_platform.environment.opened import Platform, open_platform
from prefect_platform.errors import ApplyError, PreflightError
from prefect_platform.files import delete_folder
from prefect_platform.operations import deploy, given
from prefect_platform.planning.bundle import Bundle, Service
from prefect_platform.planning.diff import Plan
from prefect_platform.targets.local import preflight
from prefect_platform.targets.local.target import Target

from .conftest import ROOT
from .rules import stack

Damage = Callable[[Path], object]
GIVEN = "TEST_LOCAL_GIVEN"


@dataclass
class Machine:
    """An environment with one process, in a short folder: a socket's path is limited."""

    platform: Platform
    bundle: Bundle
    said: list[str]

    @property
    def target(self) -> Target:
        assert isinstance(self.platform.target, Target)
        return self.platform.target

    @property
    def state(self) -> Path:
        return self.target.state

    def plan(self) -> Plan:
        return deploy.make_plan(self.platform, [self.bundle])

    def setup(self) -> None:
        """The part of a setup that changes the machine."""
        plan = self.plan()
        given.store(self.platform, [self.bundle])
        self.target.apply(plan, [self.bundle])

    def files(self) -> dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for path in self.state.rglob("*")
            if path.is_file() and "logs" not in path.parts
        }

    def pids(self) -> list[int]:
        return [each.pid for each in self.target.processes()]


def _machine(folder: Path) -> Machine:
    said: list[str] = []
    platform = open_platform(ROOT, {"state": str(folder)}, "local", {}, said.append)
    target = platform.target
    assert isinstance(target, Target)
    # Its process needs no package, so its runtime has none: supervisord is that of the tests' own environment.
    target.on.lock_file = folder / "runtime.txt"
    target.on.lock_file.write_text("# nothing\n")
    target.on.supervisor.python = Path(sys.executable)
    secrets = target.state / "secrets" / "x.env"
    service = Service(
        "x",
        "server",
        ("/bin/sleep", "1000"),
        {"SECRETS_FILE": str(secrets)},
        str(target.state),
        "TERM",
        5,
        (),
        {"server.py": "1"},
        (),
    )
    own = replace(stack("x"), secrets=(SecretSpec("A", "password"), SecretSpec(GIVEN, "", given="url")))
    return Machine(platform, Bundle(own, {"server.py": b"pass\n"}, (service,), None), said)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(prefix="platform-"))
    made = _machine(folder)
    try:
        with pytest.MonkeyPatch.context() as environ:
            environ.setenv(GIVEN, "first")
            made.setup()
        yield made
    finally:
        made.target.remove({}, "", True)
        delete_folder(folder)


def _delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


DAMAGES: dict[str, tuple[str, Damage, str]] = {
    "the secrets' file lost": ("secrets/x.env", _delete, "write secrets/x.env: missing"),
    "the secrets' file changed": (
        "secrets/x.env",
        lambda file: file.write_text("A='other'\n"),
        "write secrets/x.env: changed",
    ),
    "the secrets' file for all to read": (
        "secrets/x.env",
        lambda file: file.chmod(0o644),
        "write secrets/x.env: its mode is 644, not 600",
    ),
    "supervisord.conf lost": ("run/supervisord.conf", _delete, "write run/supervisord.conf: missing"),
    "supervisord.conf changed": (
        "run/supervisord.conf",
        lambda file: file.write_text("[supervisord]\n"),
        "write run/supervisord.conf: changed",
    ),
    "supervisord.conf for all to read": (
        "run/supervisord.conf",
        lambda file: file.chmod(0o640),
        "write run/supervisord.conf: its mode is 640, not 600",
    ),
    "a stack's file lost": ("stacks/x/server.py", _delete, "write x/server.py: new"),
    "a stack's file changed": (
        "stacks/x/server.py",
        lambda file: file.write_text("other\n"),
        "write x/server.py: changed",
    ),
    "a stack's file for all to write": (
        "stacks/x/server.py",
        lambda file: file.chmod(0o666),
        "write x/server.py: its mode is 666, not 600",
    ),
    "a folder lost": ("data/x/tmp", _delete, "create folder data/x/tmp: missing"),
    "the logs lost": ("logs", _delete, "create folder logs: missing"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_was_lost_or_changed_by_hand_is_planned_and_restored_without_a_restart(
    machine: Machine, name: str
) -> None:
    path, damage, planned = DAMAGES[name]
    assert machine.plan().steps == ()
    pids, file = machine.pids(), machine.state / path
    before = file.read_bytes() if file.is_file() else b""
    damage(file)
    shown = [f"{step.action} {step.subject}: {step.cause}" for step in machine.plan().steps]
    machine.setup()
    assert shown == [planned]
    assert machine.plan().steps == ()
    assert (file.read_bytes() if file.is_file() else b"") == before
    assert file.is_dir() or file.stat().st_mode & 0o777 == 0o600
    assert machine.pids() == pids


@pytest.mark.parametrize("lost", ["run/supervisord.conf", "secrets/x.env"])
def test_a_restart_is_refused_while_what_it_starts_with_is_missing(machine: Machine, lost: str) -> None:
    pids = machine.pids()
    (machine.state / lost).unlink()
    with pytest.raises(
        PreflightError, match=rf"{lost}: missing; nothing was changed\nhint: ./invoke prefect.setup"
    ):
        machine.target.restart(["x-server"])
    assert machine.pids() == pids
    machine.setup()
    machine.target.restart(["x-server"])
    assert machine.pids() != pids


def test_a_given_secret_is_planned_before_it_is_stored(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GIVEN, "first")
    assert str(machine.plan()) == "nothing to do: matches the configuration"
    monkeypatch.setenv(GIVEN, "second")
    files, pids = machine.files(), machine.pids()
    plan = machine.plan()
    assert [(step.action, step.subject, step.cause) for step in (*plan.steps, *plan.inside)] == [
        ("restart", "x-server", "a secret changed"),
        ("keep", f"secret {GIVEN}", "a new value is given"),
    ]
    assert machine.files() == files
    machine.setup()
    assert machine.pids() != pids
    assert machine.plan() == Plan(())
    monkeypatch.delenv(GIVEN)
    assert machine.plan() == Plan(())


def test_a_stopped_environment_says_so_instead_of_a_traceback(machine: Machine) -> None:
    machine.target.stop(())
    with pytest.raises(
        PreflightError, match=r"environment 'local' is not running\nhint: ./invoke prefect.setup"
    ):
        machine.target.restart(["x-server"])
    machine.said.clear()
    machine.target.stop(())
    assert machine.said == ["environment 'local' is not running"]
    machine.setup()


def test_removal_says_what_goes_and_what_stays_and_ends_when_nothing_is_left(tmp_path: Path) -> None:
    machine = _machine(tmp_path)
    assert machine.target.removal("", True) == ""
    (machine.state / "stacks").mkdir(parents=True)
    (machine.state / "data").mkdir()
    assert machine.target.removal("", False).endswith("; databases, logs, secrets and backups stay")
    machine.target.remove({}, "", False)
    assert machine.target.removal("", False) == ""
    assert "databases, logs and secrets; backups stay" in machine.target.removal("", True)
    machine.target.remove({}, "", True)
    assert machine.target.removal("", True) == ""


@pytest.mark.parametrize("key", ["gateway.verifier_port", "gateway.port", "prefect.port"])
def test_a_port_that_is_taken_is_named_by_its_key(tmp_path: Path, key: str) -> None:
    settings = _machine(tmp_path).target.settings
    section, name = key.split(".")
    assert port_keys(settings, section, settings.values[section][name]) == f"platform.{key}"


def test_a_refused_port_names_its_key() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PreflightError, match=r"is taken by .*\n.*platform\.x\.port; nothing was changed"):
            preflight.check_port("x-server", "127.0.0.1", port, lambda _: False, "platform.x.port")


def _as_ordinary(code: str) -> None:
    """Run Python without root's right to change what is read-only: in a process of its own, because threads of this one keep theirs."""
    rights = "-dac_override,-dac_read_search,-fowner"
    drop = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"] if os.geteuid() == 0 else []
    path = os.pathsep.join(filter(None, sys.path))
    subprocess.run([*drop, sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=True)


def test_read_only_folders_are_deleted_and_links_are_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    data = tmp_path / "data"
    inner = data / "ui" / "assets"
    inner.mkdir(parents=True)
    (inner / "a.js").touch()
    (inner / "link").symlink_to(kept)
    for folder in (inner, inner.parent):
        folder.chmod(0o555)
    _as_ordinary(f"""
import pathlib, shutil
from prefect_platform.files import delete_folder
data = pathlib.Path({str(data)!r})
shutil.rmtree(data, ignore_errors=True)
assert data.exists(), "this process may delete what is read-only"
delete_folder(data)
delete_folder(data)
""")
    assert not data.exists()
    assert (kept / "file").exists()


def test_what_cannot_be_deleted_is_named(tmp_path: Path) -> None:
    """/proc has what nobody may delete, not even root."""
    with pytest.raises(ApplyError, match=r"/proc/self/task.*: cannot be deleted: .*\nhint: delete it"):
        delete_folder(Path("/proc/self/task"))
