"""Copies of this repository with a tiny lock (Invoke alone) and tiny tasks: what is tested is the way from a clone to a running task."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TASKS = '''\
"""Tasks of the copy."""

import os
import sys

from invoke import Collection, Exit, task


@task
def where(c):
    """Say where we are."""
    import colorsys  # not imported so far: a module beside this file must not pass for it

    import prefect_platform

    print(os.getcwd())
    print(os.path.dirname(prefect_platform.__file__))
    print(os.environ.get("PYTHONPATH", "no PYTHONPATH"))


@task(help={"env": "which one"})
def setup(c, env="local", port=0):
    """Bring everything up."""
    print(f"setup {env} {port} {c.config.lab.gateway.port} {c.config.lab.strict}")


@task
def needs(c, word):
    """Take a word."""
    print("needs", word)


@task
def bug(c):
    """Fail as only a bug does."""
    raise RuntimeError("a bug")


@task
def flood(c):
    """Print more than a pipe holds."""
    for number in range(100_000):
        print(number)


@task
def change(c, code=0):
    """Change something, with messages and data on the way."""
    for number in range(3):
        print("message", file=sys.stderr, flush=True)
        print("data", flush=True)
        os.system("echo of a program >&2")
    with open("changed", "w") as file:
        file.write("yes")
    raise Exit(code=code)


@task
def wait(c):
    """Wait for a signal."""
    import time

    print("waiting", flush=True)
    time.sleep(60)


prefect = Collection("prefect")
prefect.add_task(setup)
namespace = Collection(where, needs, bug, flood, change, wait)
namespace.add_collection(prefect)
namespace.configure({"lab": {"gateway": {"port": 4200}, "strict": True, "routes": []}})
'''


@dataclass(frozen=True)
class Clone:
    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "requirements" / "operator.txt"

    def environ(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("INVOKE_", "PYTHON"))
        }
        return kept | dict(extra or {})

    def start(
        self, *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, shell: str = ""
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*shell.split(), str(self.root / "invoke"), *words],
            cwd=cwd or self.root,
            env=self.environ(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self, *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, shell: str = ""
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, env=env, cwd=cwd, shell=shell)
        out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def make_clone(root: Path) -> Clone:
    """What git would bring, as far as the wrapper needs it."""
    (root / "requirements").mkdir(parents=True)
    shutil.copy(REPOSITORY / "invoke", root / "invoke")
    package = root / "src" / "prefect_platform"
    package.mkdir(parents=True)
    source = REPOSITORY / "src" / "prefect_platform"
    for module in [*source.glob("*.py"), *(source / "cli").glob("*.py"), *(source / "venvs").glob("*.py")]:
        copy = package / module.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(module, copy)
    (root / "tasks").mkdir()
    shutil.copy(REPOSITORY / "tasks" / "__init__.py", root / "tasks")
    (root / "tasks" / "root.py").write_text(TASKS)
    clone = Clone(root)
    clone.lock.write_text(tiny_lock())
    return clone


def tiny_lock(*names: str) -> str:
    """Invoke, and what else is named, with its hashes, cut from the real lock."""
    lock = (REPOSITORY / "requirements" / "operator.txt").read_text()
    entries = [
        re.search(rf"^{name}==.*(?:\n    --hash=.*)+", lock, re.MULTILINE) for name in ("invoke", *names)
    ]
    return "".join(entry[0].rstrip(" \\") + "\n" for entry in entries if entry)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A fresh clone: no environment yet."""
    return make_clone(tmp_path / "fresh clone")


@pytest.fixture(scope="session")
def template() -> Iterator[Clone]:
    with tempfile.TemporaryDirectory() as folder:
        made = make_clone(Path(folder) / "template")
        first = made.run("--list")
        assert first.returncode == 0, first.stderr
        yield made


@pytest.fixture
def ready(template: Clone, tmp_path: Path) -> Clone:
    """A clone with its environment, moved from where that was made: this must work as well."""
    shutil.copytree(template.root, tmp_path / "moved clone", symlinks=True)
    return Clone(tmp_path / "moved clone")
