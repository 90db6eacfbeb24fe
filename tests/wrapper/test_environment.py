"""`./invoke` makes its environment: once, whole, and again when it must."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from prefect_platform.venvs import make, pip_install

from .conftest import Clone, make_clone, tiny_lock

NOBODY = 65534


def stamp(clone: Clone) -> int:
    return (clone.root / ".venv" / ".lock").stat().st_ino


def assert_works(clone: Clone) -> None:
    result = clone.run("where")
    assert result.returncode == 0, result.stderr
    assert not list(clone.root.glob(".venv.new")) + list(clone.root.glob(".venv.old"))
    pip_install = [str(clone.root / ".venv" / "bin" / "python"), "-I", "-m", "pip", "check"]
    assert subprocess.run(pip_install, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_concurrent_first_calls_make_one_environment(clone: Clone) -> None:
    calls = [clone.start("where") for _ in range(3)]
    results = [call.communicate() for call in calls]
    assert [call.returncode for call in calls] == [0, 0, 0], results
    errors = "".join(err for _, err in results)
    assert errors.count("waiting for another ./invoke (pid ") == 2
    assert_works(clone)


def test_a_complete_environment_is_left_alone(ready: Clone) -> None:
    before = stamp(ready)
    assert_works(ready)
    assert stamp(ready) == before


def test_a_changed_lock_makes_it_anew(ready: Clone) -> None:
    before = stamp(ready)
    ready.lock.write_text("# changed\n" + ready.lock.read_text())
    assert_works(ready)
    assert stamp(ready) != before


def test_another_python_makes_it_anew(ready: Clone) -> None:
    before = stamp(ready)
    python = ready.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/gone/bin/python3.10")
    assert_works(ready)
    assert stamp(ready) != before


def test_scripts_of_the_environment_name_their_place(clone: Clone) -> None:
    assert clone.run("where").returncode == 0
    script = clone.root / ".venv" / "bin" / "invoke"
    assert ".venv.new" not in script.read_text()
    assert subprocess.run([str(script), "--version"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sign", "packages"), [(signal.SIGKILL, ()), (signal.SIGINT, ("uv",))], ids=["killed pip", "stopped uv"]
)
def test_an_interrupted_build_converges(
    clone: Clone, sign: signal.Signals, packages: tuple[str, ...]
) -> None:
    """Interrupted as soon as the environment's folder, its pip, then its Invoke appear; the last call finishes it."""
    clone.lock.write_text(tiny_lock(*packages))
    new = clone.root / ".venv.new"
    site = "lib/python*/site-packages"
    for sign_of_life in ("pyvenv.cfg", f"{site}/pip/__init__.py", f"{site}/invoke/__init__.py"):
        call = clone.start("where")
        deadline = time.monotonic() + 60
        while not list(new.glob(sign_of_life)):
            assert call.poll() is None, call.communicate()
            assert time.monotonic() < deadline, f"{sign_of_life} never came"
            time.sleep(0.005)
        # The wrapper and make.py are one group; the steps below have their own and live on after SIGKILL.
        os.killpg(call.pid, sign)
        err = call.communicate()[1]
        if sign == signal.SIGINT:
            assert "Traceback" not in err
            assert not new.exists()
    assert_works(clone)


def test_a_lock_that_pip_refuses_says_why(ready: Clone) -> None:
    text = ready.lock.read_text()
    ready.lock.write_text(text[: text.index("sha256:")] + f"sha256:{'0' * 64}\n")
    result = ready.run("where")
    assert result.returncode == 3
    assert "DO NOT MATCH THE HASHES" in result.stderr
    assert "hint: a package differs from the lock" in result.stderr
    assert not list(ready.root.glob(".venv.new"))


def test_no_network_says_so(ready: Clone) -> None:
    ready.lock.write_text("# changed\n" + ready.lock.read_text())
    off = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "0",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_CACHE_DIR": "1",
    }
    empty = {"PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": ""}
    result = ready.run("where", env=off | empty)
    assert result.returncode == 3
    assert "hint: the package index does not answer" in result.stderr
    assert len(result.stderr.splitlines()) < 20


def test_a_missing_lock_is_an_incomplete_clone(ready: Clone) -> None:
    ready.lock.unlink()
    result = ready.run("where")
    assert result.returncode == 3
    assert "operator.txt is missing" in result.stderr


def fake_python(folder: Path, name: str, answer: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{answer}'\n")
    (folder / name).chmod(0o755)


def tools_only(folder: Path) -> str:
    """A PATH with what the wrapper uses and no Python."""
    folder.mkdir()
    for tool in ("sh", "cmp", "readlink"):
        (folder / tool).symlink_to(shutil.which(tool) or tool)
    return str(folder)


@pytest.mark.parametrize("answer", ["3.9.2 ", "Python 3.10.12", "3.8.10 venv"])
def test_an_old_python_is_named(clone: Clone, tmp_path: Path, answer: str) -> None:
    fake_python(tmp_path / "bin", "python3", answer)
    result = clone.run("--list", env={"PATH": f"{tmp_path}/bin:{tools_only(tmp_path / 'tools')}"})
    assert result.returncode == 3
    version = next(word for word in answer.split() if word[0] == "3")
    assert f"needs Python 3.11 or newer; found: {tmp_path}/bin/python3 is {version}" in result.stderr
    assert "hint: Debian/Ubuntu: apt install" in result.stderr


def test_no_python_at_all(clone: Clone, tmp_path: Path) -> None:
    result = clone.run("--list", env={"PATH": tools_only(tmp_path / "tools")})
    assert result.returncode == 3
    assert "found: none in PATH" in result.stderr


def test_a_missing_venv_module_names_the_package(clone: Clone, tmp_path: Path) -> None:
    fake_python(tmp_path / "bin", "python3", "3.12.4 ensurepip")
    result = clone.run("--list", env={"PATH": f"{tmp_path}/bin:{tools_only(tmp_path / 'tools')}"})
    assert result.returncode == 3
    assert f"Python 3.12.4 ({tmp_path}/bin/python3) lacks the module ensurepip" in result.stderr
    assert "apt install python3.12-venv" in result.stderr
    assert "dnf install" in result.stderr


def test_the_probe_sees_a_real_lack(clone: Clone, tmp_path: Path) -> None:
    """The real interpreter, with ensurepip taken away as Debian does."""
    (tmp_path / "bin").mkdir()
    hide = 'import sys; sys.modules["ensurepip"] = None; exec(sys.argv[1])'
    (tmp_path / "bin" / "python3").write_text(f"#!/bin/sh\nexec {sys.executable} -I -c '{hide}' \"$3\"\n")
    (tmp_path / "bin" / "python3").chmod(0o755)
    result = clone.run("--list", env={"PATH": f"{tmp_path}/bin:{tools_only(tmp_path / 'tools')}"})
    assert result.returncode == 3
    assert "lacks the module ensurepip" in result.stderr


def test_an_old_first_python_does_not_hide_a_good_one(clone: Clone, tmp_path: Path) -> None:
    fake_python(tmp_path / "bin", "python3", "3.9.2 ")
    base = os.path.realpath(sys.executable)
    (tmp_path / "bin" / "python3.11").symlink_to(base)
    result = clone.run("where", env={"PATH": f"{tmp_path}/bin:{tools_only(tmp_path / 'tools')}"})
    assert result.returncode == 0, result.stderr


def test_a_python_asked_for_by_name_is_not_replaced(clone: Clone, tmp_path: Path) -> None:
    result = clone.run("where", env={"PREFECT_PLATFORM_PYTHON": str(tmp_path / "nowhere")})
    assert result.returncode == 3
    assert "PREFECT_PLATFORM_PYTHON=" in result.stderr


def readable_python() -> str:
    """A Python that another user may run: the one of these tests may live in a private home."""
    for path in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        with contextlib.suppress(PermissionError):
            if (
                subprocess.run(
                    [path, "-I", "-c", "import ensurepip"], user=_other_user(), check=False
                ).returncode
                == 0
            ):
                return path
    raise AssertionError("no Python here that an unprivileged user may run")


def _other_user() -> int | None:
    return NOBODY if os.getuid() == 0 else None


def test_a_read_only_clone_says_so() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clone = make_clone(Path(folder) / "clone")
        for path in (Path(folder), clone.root):
            path.chmod(0o555)
        try:
            result = subprocess.run(
                [str(clone.root / "invoke"), "--list"],
                env={"PATH": "/usr/bin:/bin", "PREFECT_PLATFORM_PYTHON": readable_python()},
                user=_other_user(),
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            for path in (Path(folder), clone.root):
                path.chmod(0o755)
    assert result.returncode == 3
    assert "Permission denied" in result.stderr
    assert "hint: move the clone to a writable folder with free disk space" in result.stderr
    assert "Traceback" not in result.stderr


def test_progress_is_told_only_when_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(pip_install, "QUIET_SECONDS", 0.0)
    progress = pip_install.Progress(said.append, ".venv")
    progress.total = 2
    progress.line("Collecting invoke==3.0.3 (from -r lock)")
    progress.tick()
    progress.line("Downloading invoke.whl (1 kB)")
    progress.line("Installing collected packages: invoke")
    assert said == [".venv: collected 1 of 2 packages …", ".venv: installing 1 packages …"]
    quiet: list[str] = []
    monkeypatch.setattr(pip_install, "QUIET_SECONDS", 3600.0)
    silent = pip_install.Progress(quiet.append, ".venv")
    silent.line("Installing collected packages: invoke")
    silent.tick()
    silent.done()
    assert quiet == []


BUILDER = """
import sys
from pathlib import Path
from prefect_platform.venvs import make, pip_install
folder = Path(sys.argv[1])
step = "import pathlib, sys, time; pathlib.Path(sys.argv[1], 'begun').touch(); time.sleep(1); pathlib.Path(sys.argv[1], 'ended').touch()"
with make._guard(folder / "env", print) as guard:
    pip_install.run([sys.executable, "-c", step, str(folder)], pip_install.Progress(print, "env"), guard)
"""


def test_the_guard_outlives_a_killed_builder(tmp_path: Path) -> None:
    """A step that is still running keeps the right to build until it ends, whatever became of who started it."""
    builder = subprocess.Popen([sys.executable, "-c", BUILDER, str(tmp_path)])
    while not (tmp_path / "begun").exists():
        assert builder.poll() is None
        time.sleep(0.01)
    builder.kill()
    assert builder.wait() == -signal.SIGKILL
    heard: list[str] = []
    with make._guard(tmp_path / "env", heard.append):
        assert (tmp_path / "ended").exists()
    assert heard == [f"waiting for another ./invoke (pid {builder.pid}) that is creating env"]
