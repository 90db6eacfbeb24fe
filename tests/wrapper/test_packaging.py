"""The locks and the wheel: what others install from."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LOCKS = ("operator", "runtime", "dev")


def lock_text(name: str) -> str:
    return (REPOSITORY / "requirements" / f"{name}.txt").read_text()


def pins(name: str) -> dict[tuple[str, str], str]:
    """(package, marker) → version."""
    entries = re.findall(r"^([a-z0-9][\w.-]*)==(\S+)((?: ; [^\\]*)?)", lock_text(name), re.MULTILINE)
    return {(package, marker.strip()): version for package, version, marker in entries}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_index(name: str) -> None:
    text = lock_text(name)
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--(extra-)?index-url|--find-links)\b", text, re.MULTILINE)


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_lock_is_pinned_and_hashed(name: str) -> None:
    entries = re.split(r"\n(?=[a-z0-9])", lock_text(name))
    assert len(entries) > 10
    assert [
        entry.splitlines()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry
    ] == []


def test_the_locks_agree() -> None:
    dev = {package: version for (package, _), version in pins("dev").items()}
    for name in ("operator", "runtime"):
        other = {package: version for (package, _), version in pins(name).items()}
        assert {package: version for package, version in other.items() if dev.get(package) != version} == {}


def test_the_operator_has_no_prefect() -> None:
    assert "prefect" not in {package for package, _ in pins("operator")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(REPOSITORY),
    ]
    result = subprocess.run(build, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = folder.glob("prefect_platform-*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_library_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"prefect_platform", next(top for top in tops if top.endswith(".dist-info"))}
    assert "prefect_platform/cli/program.py" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


_IMPORT_ALL = """
import importlib, pkgutil, sys
import prefect_platform
names = [each.name for each in pkgutil.walk_packages(prefect_platform.__path__, "prefect_platform.")]
# Programs: they run when they are imported, or import each other as scripts do.
names = [name for name in names if not name.endswith("__main__") and ".fly.machine." not in name]
extra = sys.argv[1] == "gateway"
names = [name for name in names if extra or not name.startswith("prefect_platform.gateway.")]
for name in names:
    importlib.import_module(name)
assert "site-packages" in prefect_platform.__file__, prefect_platform.__file__
print(len(names))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("extra", "modules"), [("", 100), ("gateway", 120)])
def test_the_wheel_names_all_that_it_imports(wheel: Path, tmp_path: Path, extra: str, modules: int) -> None:
    """In an environment that has nothing else, at the versions of the lock. The verifier's modules need the extra of their name."""
    pinned = sorted({f"{package}=={version}" for (package, _), version in pins("dev").items()})
    constraints, venv = tmp_path / "constraints.txt", tmp_path / "venv"
    constraints.write_text("\n".join(pinned))
    uv = [sys.executable, "-m", "uv"]
    install = [*uv, "pip", "install", "--quiet", "--python", str(venv), "--constraint", str(constraints)]
    for command in (
        [*uv, "venv", "--quiet", "--python", sys.executable, str(venv)],
        [*install, f"prefect-platform{f'[{extra}]' if extra else ''} @ {wheel.as_uri()}"],
        [str(venv / "bin" / "python"), "-I", "-c", _IMPORT_ALL, extra],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) > modules


def test_this_environment_is_consistent() -> None:
    check = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stdout
