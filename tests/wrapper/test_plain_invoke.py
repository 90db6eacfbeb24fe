"""A plain Invoke (`pipx install invoke`) inside a clone is `./invoke`: same environment, output and exit code."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import plain_invoke

from .conftest import REPOSITORY, Clone

ANSWERS: tuple[list[str], ...] = (
    ["where"],
    ["prefect.setup", "--env", "x", "--port=7"],
    ["--list"],
    ["--list", "prefect"],
    [],
    ["--help", "prefect.setup"],
    ["prefect.setup", "--help"],
    ["prefect.setpu"],
    ["nonsense"],
    ["-f", "no-such.yaml", "where"],
    ["--complete", "--", "invoke", "prefect.s"],
    ["--complete", "--", "invoke", "prefect.setup", "--"],
)


@dataclass(frozen=True)
class Plain:
    """An environment with Invoke alone, and an empty home."""

    program: Path
    home: Path

    def start(
        self, clone: Clone, *words: str, cwd: Path, program: Path | None = None
    ) -> subprocess.Popen[str]:
        environ = clone.environ({"HOME": str(self.home)})
        # As `pipx` or an activated environment has it: its own Python comes first.
        environ["PATH"] = f"{self.program.parent}:{environ['PATH']}"
        return subprocess.Popen(
            [str(program or self.program), *words],
            cwd=cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, clone: Clone, *words: str, cwd: Path, program: Path | None = None) -> tuple[int, str, str]:
        process = self.start(clone, *words, cwd=cwd, program=program)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err


@pytest.fixture(scope="session")
def plain(template: Clone, tmp_path_factory: pytest.TempPathFactory) -> Plain:
    folder = tmp_path_factory.mktemp("plain")
    program = plain_invoke.make(folder / "venv", template.root / ".venv")
    (folder / "home").mkdir()
    return Plain(program, folder / "home")


@pytest.mark.parametrize("folder", [".", "src/prefect_platform/cli", "tasks"])
def test_it_answers_as_the_wrapper_does(ready: Clone, plain: Plain, folder: str) -> None:
    there = ready.root / folder
    for words in ANSWERS:
        wanted = ready.run(*words, cwd=there)
        found = plain.run(ready, *words, cwd=there)
        assert found == (wanted.returncode, wanted.stdout, wanted.stderr), words


@pytest.mark.parametrize("onto", [">&-", "2>&-", ">&- 2>&-", "2>/dev/full", ">/dev/full"])
def test_closed_and_full_streams_too(ready: Clone, plain: Plain, onto: str) -> None:
    found = []
    for program in (ready.root / "invoke", plain.program):
        (ready.root / "changed").unlink(missing_ok=True)
        line = f"'{program}' change --code=5 {onto}"
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=ready.root,
            env=ready.environ({"HOME": str(plain.home)}),
            capture_output=True,
            text=True,
            check=False,
        )
        found.append((done.returncode, done.stdout, done.stderr, (ready.root / "changed").exists()))
    assert found[0] == found[1]
    assert found[0][0] == (1 if onto == ">/dev/full" else 5)


def test_that_of_the_environment_too(ready: Clone, plain: Plain) -> None:
    (ready.root / "tasks" / "platform.py").write_text(
        "raise SystemExit('a task module passed for platform')\n"
    )
    ready.lock.write_text("# changed\n" + ready.lock.read_text())
    assert ready.run("where").returncode == 0
    own = ready.root / ".venv" / "bin" / "invoke"
    code, out, err = plain.run(ready, "where", cwd=ready.root / "src", program=own)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == str(ready.root / "src")


def test_it_makes_the_environment_first(clone: Clone, plain: Plain) -> None:
    code, out, err = plain.run(clone, "prefect.setup", cwd=clone.root)
    assert (code, out) == (0, "setup local 0 4200 True\n"), err
    assert (clone.root / ".venv" / ".lock").read_bytes() == clone.lock.read_bytes()


def test_a_search_root_inside_the_clone_is_no_endless_loop(
    ready: Clone, plain: Plain, tmp_path: Path
) -> None:
    words = ["-r", str(ready.root / "src"), "prefect.setup"]
    code, out, err = plain.run(ready, *words, cwd=tmp_path)
    assert (code, out) == (0, "setup local 0 4200 True\n"), err


def test_ctrl_c(ready: Clone, plain: Plain) -> None:
    call = plain.start(ready, "wait", cwd=ready.root)
    assert call.stdout
    assert call.stdout.readline() == "waiting\n"
    os.killpg(call.pid, signal.SIGINT)
    _, err = call.communicate()
    assert (call.returncode, len(err.splitlines())) == (130, 1)


def test_tab_completion(ready: Clone, plain: Plain) -> None:
    """Invoke's own script, from a folder below: it asks `invoke`, which hands over."""
    script = """
        source <(invoke --print-completion-script=bash)
        COMP_WORDS=(invoke prefect.s); _complete_invoke invoke prefect.s; echo "${COMPREPLY[@]}"
        COMP_WORDS=(invoke prefect.setup --); _complete_invoke invoke --; echo "${COMPREPLY[@]}"
    """
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=ready.root / "src",
        env=ready.environ({"PATH": f"{plain.program.parent}:{os.environ['PATH']}"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == ["prefect.setup", "--env --port"]


def test_another_programs_import_does_not_hand_over(ready: Clone) -> None:
    """Whoever imports the tasks as a package, a type checker or a test, keeps running."""
    code = "import invoke, tasks; print(sorted(tasks.namespace.collections))"
    python = ready.root / ".venv" / "bin" / "python"
    result = subprocess.run(
        [str(python), "-c", code],
        cwd=ready.root,
        env=ready.environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout, result.stderr) == ("['prefect']\n", "")


def test_the_hand_over_is_plain_python() -> None:
    """It runs on the Python of whoever called Invoke: nothing of a version newer than Invoke's oldest, 3.6."""
    text = (REPOSITORY / "tasks" / "__init__.py").read_text().partition("from .root")[0]
    compile(text, "tasks", "exec", dont_inherit=True)
    assert "__future__" not in text
    assert ":=" not in text
    assert sorted(line for line in text.splitlines() if line.startswith(("import", "from"))) == [
        "import os",
        "import sys",
    ]
