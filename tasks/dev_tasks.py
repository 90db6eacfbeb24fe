"""Tasks for developers of this repository: test, lint, bench, lock. They run in `.venv-dev`, made from requirements/dev.txt."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit

from . import _groups
from ._task import task

ROOT = Path(__file__).resolve().parents[1]
CHECKED = ("src", "tasks", "stacks", "vault", "tests", "bench")
DOCKERFILES = ("lab/images/*/Dockerfile", "tests/fly/golden/Dockerfile")
"""The second is what target fly renders."""


def _lab(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/lab/test_vps_{name}.py" for name in names)


GROUPS = (
    ("lab-3", _lab("chaos", "sso", "sso_elsewhere", "agents", "external_vault")),
    ("lab-1", ("tests/lab",)),
    ("fly", ("tests/fly",)),
    ("local-1", ("tests/local",)),
    ("lab-2", _lab("interrupted", "releases", "ports", "updates")),
    ("parts", ("tests/authentik", "tests/runtime", "tests/vault")),
    (
        "local-2",
        ("tests/local/test_interrupted.py", "tests/local/test_moving.py", "tests/local/test_postgres.py"),
    ),
    ("others", ()),
)
"""What runs in one pytest, long ones first, no more than three that have an engine at once: folders and files of tests. A file that a group
names is in no other; the last group has what no other names. Each group of the lab's and Fly's has a Docker engine of its own.
"""
AT_ONCE = 3
"""They keep the two cores of a small runner busy. With more, what a test waits for starts so slowly that it runs out of time."""
MINUTES = 70
"""What CI gives the whole of them, before it would end everything without a word."""
LOCKS = ("runtime", "operator", "dev")
"""In this order: a later lock takes the versions of the earlier ones."""


@task(words=True)
def test(c: Context) -> None:
    """Run the tests; words after -- go to pytest.

    Example: ./invoke test -- -k wrapper -x
    """
    pytest = [_python(), "-m", "pytest"]
    if words := _words_after_dashes():
        _finish(_run([*pytest, f"--durations={_groups.SLOWEST}", "--durations-min=1", *words]))
        return
    groups = [_groups.Group(name, [*pytest, *paths]) for name, paths in _group_paths()]
    with tempfile.TemporaryDirectory(prefix="tests-") as folder:
        _finish(_groups.run(groups, Path(folder), ROOT, AT_ONCE, MINUTES, _tell))


def _group_paths() -> list[tuple[str, list[str]]]:
    """Each group with its arguments for pytest."""
    named = {path for _, paths in GROUPS for path in paths}
    folders = {str(file.parent.relative_to(ROOT)) for file in (ROOT / "tests").rglob("test_*.py")}
    made = []
    for name, paths in GROUPS:
        mine = paths or sorted(folders - named)
        inside = [path for path in sorted(named - set(mine)) if Path(path).parent.as_posix() in mine]
        made.append((name, [*mine, *(f"--ignore={path}" for path in inside)]))
    return made


@task(help={"fix": "repair what can be repaired: format, imports"})
def lint(c: Context, fix: bool = False) -> None:
    """Check format, style, types and Dockerfiles.

    Example: ./invoke lint --fix

    ruff, mypy --strict, hadolint.
    """
    python = _python()
    folders = [folder for folder in CHECKED if any((ROOT / folder).rglob("*.py"))]
    dockerfiles = [str(file) for pattern in DOCKERFILES for file in sorted(ROOT.glob(pattern))]
    codes = [
        _run([python, "-m", "ruff", "check", *(["--fix"] if fix else []), *folders]),
        _run([python, "-m", "ruff", "format", *([] if fix else ["--check"]), *folders]),
        _run([python, "-m", "mypy", "--strict", *folders]),
        _run([str(Path(python).with_name("hadolint")), *dockerfiles]),
    ]
    _finish(max(codes))


@task(
    help={
        "vps": "those of the VPS target, in the lab (as root)",
        "fly": "those of the Fly machine, likewise",
    },
    words=True,
)
def bench(c: Context, vps: bool = False, fly: bool = False) -> None:
    """Run benchmarks; words after -- go to them.

    Example: ./invoke bench --vps
    """
    name = "vps" if vps else "fly" if fly else "run"
    _finish(_run([_python(), f"bench/{name}.py", *_words_after_dashes()]))


@task(help={"upgrade": "take the newest versions that requirements/*.in allow"})
def lock(c: Context, upgrade: bool = False) -> None:
    """Compile requirements/*.in to hashed locks.

    Example: ./invoke lock --upgrade
    """
    # uv lives in the environment that a wrong lock could not make: it is made first, from the lock as it is.
    python = _python()
    for number, name in enumerate(LOCKS):
        _finish(_run(_compile_words(python, name, LOCKS[:number], upgrade), cwd=ROOT / "requirements"))


@task()
def wheel(c: Context) -> None:
    """Build the library's wheel into dist/.

    Example: ./invoke wheel
    """
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    # The backend is in the lock: nothing unpinned is fetched to build with.
    _finish(_run([_python(), "-m", "build", "--wheel", "--no-isolation", "."]))


def _compile_words(python: str, name: str, earlier: Sequence[str], upgrade: bool) -> list[str]:
    words = [
        python,
        "-m",
        "uv",
        "pip",
        "compile",
        "--universal",
        "--python-version",
        "3.11",
        "--generate-hashes",
    ]
    # An index's address in a lock would send every user to the author's index.
    words += ["--no-header", "--no-emit-index-url", "--quiet", f"{name}.in", "-o", f"{name}.txt"]
    for other in earlier:
        words += ["-c", f"{other}.txt"]
    return words + (["--upgrade"] if upgrade else [])


def _python() -> str:
    """The developers' interpreter; its environment is created or updated first."""
    from prefect_platform.venvs import make

    lock_file = ROOT / "requirements" / "dev.txt"
    return str(make.ensure(ROOT / ".venv-dev", lock_file, _say, pth=("../../../../src",)))


def _tell(line: str) -> None:
    print(line, flush=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _words_after_dashes() -> list[str]:
    """As they were given; Invoke's own `remainder` has lost the quoting of `-k "a or b"`."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


def _run(words: Sequence[str], cwd: Path = ROOT) -> int:
    sys.stdout.flush()
    with subprocess.Popen(words, cwd=cwd) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                # It got the Ctrl-C too and has things to take down.
                continue


def _finish(code: int) -> None:
    """End the whole command with the tool's own exit code unless it was 0; a tool that a signal ended counts as a shell counts it."""
    if code:
        raise Exit(code=code if code > 0 else 128 - code)
