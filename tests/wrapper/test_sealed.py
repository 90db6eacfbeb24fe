"""An environment that flows share with the server: what they install into it is refused, or found and taken back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prefect_platform.venvs import installed, make

from .conftest import tiny_lock

NOBODY = 65534
UV = Path(sys.prefix, "bin", "uv")


class Shared:
    """A sealed environment with Invoke, and a wheel of another Invoke, which anybody may read."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.env = folder, folder / "env"
        self.lock = folder / "lock.txt"
        self.lock.write_text(tiny_lock())
        self.wheel = folder / "invoke-99.0-py3-none-any.whl"
        with zipfile.ZipFile(self.wheel, "w") as wheel:
            info = "invoke-99.0.dist-info"
            wheel.writestr("invoke/__init__.py", "__version__ = '99.0'\n")
            wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: invoke\nVersion: 99.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        self.make()

    def make(self) -> None:
        make.ensure(self.env, self.lock, lambda _: None, sealed=True)

    @property
    def package(self) -> Path:
        (found,) = self.env.glob("lib/python*/site-packages/invoke")
        return found

    def uv(self, user: int | None = None) -> subprocess.CompletedProcess[str]:
        """Upgrade Invoke by uv."""
        words = [
            str(self.folder / "uv"),
            "pip",
            "install",
            "--offline",
            "--no-deps",
            "--no-cache",
            "--upgrade",
        ]
        python = str(self.env / "bin" / "python")
        return subprocess.run(
            [*words, "--python", python, str(self.wheel)],
            capture_output=True,
            text=True,
            user=user,
            env={"HOME": str(self.folder), "PATH": "/usr/bin:/bin"},
        )

    def both(self) -> tuple[str, str]:
        """What a quick look and a thorough one find."""
        return tuple(installed.difference(self.env, every_file=each) for each in (False, True))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def once() -> Iterator[Shared]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy2(UV, folder / "uv")
        made = Shared(folder)
        for path in (made.lock, made.wheel):
            path.chmod(0o644)
        yield made
        installed.unseal(made.env)


@pytest.fixture
def shared(once: Shared) -> Iterator[Shared]:
    """As it was made: a test has a copy, with its times."""
    kept = once.folder / "kept"
    shutil.copytree(once.env, kept, symlinks=True)
    assert once.both() == ("", "")
    yield once
    installed.unseal(once.env)
    shutil.rmtree(once.env)
    kept.rename(once.env)


def test_pip_refuses_whoever_calls_it(shared: Shared) -> None:
    words = [str(shared.env / "bin" / "python"), "-m", "pip", "install", str(shared.wheel)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode
    assert "pip: this environment is the platform's own" in done.stderr
    assert "hint:" in done.stderr
    assert not list(shared.env.glob("bin/pip*"))
    assert shared.both() == ("", "")


def test_its_own_user_cannot_install_without_being_root(shared: Shared) -> None:
    """The modes refuse its owner as well; root alone passes them."""
    uid = NOBODY if os.geteuid() == 0 else None
    if uid:
        subprocess.run(["chown", "-R", str(uid), str(shared.env)], check=True)
        shared.env.chmod(0o755)
    done = shared.uv(uid)
    assert done.returncode
    assert "ermission denied" in done.stderr
    assert shared.both() == ("", "")


def test_what_was_installed_nevertheless_is_named_and_taken_back(shared: Shared) -> None:
    installed.unseal(shared.env)
    before = installed.difference(shared.env, every_file=True)
    assert before == "", "modes are no difference"
    done = shared.uv()
    assert done.returncode == 0, done.stderr
    version = tiny_lock().split("==")[1].split()[0]
    assert shared.both() == (f"invoke 99.0 instead of {version}",) * 2
    assert make.changed(shared.env) == f"not as it was installed: invoke 99.0 instead of {version}"
    shared.make()
    assert shared.both() == ("", "")
    assert not [path.name for path in shared.folder.iterdir() if path.name.startswith(("env.new", "env.old"))]


def _touch(package: Path) -> None:
    os.utime(package / "__init__.py", (1, 1))


def _compile(package: Path) -> None:
    (package / "__pycache__" / "odd.cpython-399.pyc").touch()
    os.utime(package, (1, 1))


def _rewrite(package: Path) -> None:
    with (package / "__init__.py").open("a") as file:
        file.write("# another\n")


def _add(package: Path) -> None:
    (package / "extra.py").touch()


def _remove(package: Path) -> None:
    (package / "main.py").unlink()


@pytest.mark.parametrize("harmless", [_touch, _compile])
def test_times_and_byte_code_are_no_difference(shared: Shared, harmless: Callable[[Path], None]) -> None:
    installed.unseal(shared.env)
    harmless(shared.package)
    assert shared.both() == ("", "")


@pytest.mark.parametrize(
    ("change", "quick", "file"),
    [(_rewrite, False, "__init__.py"), (_add, True, "extra.py"), (_remove, True, "main.py")],
)
def test_a_file_that_differs_is_named(
    shared: Shared, change: Callable[[Path], None], quick: bool, file: str
) -> None:
    installed.unseal(shared.env)
    (shared.package / "__init__.py").chmod(0o644)
    change(shared.package)
    found, thorough = shared.both()
    assert bool(found) == quick
    assert thorough.startswith("1 files changed: lib/python")
    assert thorough.endswith(f"/invoke/{file}")


def test_an_environment_without_a_record_is_made_again(shared: Shared) -> None:
    (shared.env / ".installed").unlink()
    assert shared.both() == ("", "")
    assert "made by an earlier version" in make.changed(shared.env)
