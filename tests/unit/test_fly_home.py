"""What a flow's pip writes under the machine's HOME is loaded by no other process: the server would find another Prefect there first."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from prefect_platform.targets.fly import render

# The interpreter behind this environment: one without a user's folder proves nothing.
PYTHON = getattr(sys, "_base_executable", sys.executable)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The machine's program, with its volume in tmp_path."""
    monkeypatch.syspath_prepend(str(render.PROGRAMS))
    spec = importlib.util.spec_from_file_location("machine_program", render.PROGRAMS / "machine.py")
    assert spec
    assert spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    monkeypatch.setattr(made, "DATA", tmp_path)
    return made


def test_a_user_s_packages_are_loaded_by_no_process(machine: ModuleType, tmp_path: Path) -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folder = tmp_path / "home" / ".local" / "lib" / version / "site-packages"
    folder.mkdir(parents=True)
    (folder / "planted.py").write_text("")

    def loads(environ: dict[str, str]) -> bool:
        words = [PYTHON, "-c", "import planted"]
        return subprocess.run(words, env=environ, capture_output=True).returncode == 0

    environ = machine._environment()
    unset = {name: value for name, value in environ.items() if name != "PYTHONNOUSERSITE"}
    assert loads(unset), "a Python that would not load it proves nothing"
    assert not loads(environ)


def test_only_a_plain_file_of_this_start_is_read_by_root(machine: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "launched.json"
    service = {"environment": {"PLATFORM_LAUNCHED": str(file)}}
    assert machine._launched({}, 0) == machine._launched(service, 0) == ""
    file.write_text("{}")
    assert machine._launched(service, 0) == "{}"
    assert machine._launched(service, time.time() + 60) == ""
    file.rename(tmp_path / "other")
    file.symlink_to(tmp_path / "other")
    assert machine._launched(service, 0) == ""
    file.unlink()
    os.mkfifo(file)
    assert machine._launched(service, 0) == "", "it waits for nobody"
