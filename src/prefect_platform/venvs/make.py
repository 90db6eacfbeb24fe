"""Python environments made from a hashed lock: the operator's `.venv`, the local runtime, the developers' `.venv-dev`.

Standard library only: `./invoke` runs this file as a script when there is no environment yet
(`python -I make.py FOLDER LOCK [PTH-LINE…]`; exit 0, 3 with the reason, 130 interrupted), everything else calls `ensure`.

How an environment stays whole: one builder at a time (flock on `<folder>.guard`), built in `<folder>.new`, moved into place when
complete. The copy of the lock inside, `<folder>/.lock`, is written last: same bytes as the lock = complete and current.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # a script run with -I finds nothing of ours by itself
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from prefect_platform.errors import PreflightError
from prefect_platform.venvs import installed, uv_install
from prefect_platform.venvs.pip_install import Progress, Say, StepFailed

_WRITABLE_BY_OTHERS = 0o022


def ensure(
    venv_dir: Path, lock_file: Path, say: Say, pth: Sequence[str] = (), *, sealed: bool = False
) -> Path:
    """Make `venv_dir` hold exactly what `lock_file` says and return its python.

    `sealed`: flows run in it, too. Nothing can be installed into it, and one that is not as it was installed is made again.

    `pth` lines are put on its import path, relative to site-packages so that a moved clone works. Waits for another builder. `say` gets
    whole lines, and only if it takes longer than 2 s. Raises PreflightError; Ctrl-C passes through and leaves nothing half made.
    """
    python = venv_dir / "bin" / "python"
    wanted = read_lock(lock_file)

    def stands() -> bool:
        return is_current(venv_dir, wanted) and not (sealed and changed(venv_dir))

    if stands():
        return python
    try:
        with _guard(venv_dir, say) as guard:
            if not stands():
                plan = _Plan(venv_dir, lock_file, wanted, tuple(pth), sealed)
                _build(plan, Progress(say, venv_dir.name), guard)
    except StepFailed as error:
        raise PreflightError(error.message, error.hint) from error
    except OSError as error:
        raise PreflightError(
            f"{error.filename or venv_dir}: {error.strerror or error}; {venv_dir} cannot be made",
            "move the clone to a writable folder with free disk space",
        ) from error
    return python


def is_current(venv_dir: Path, wanted: bytes) -> bool:
    """True if the environment is complete, made from these lock bytes, by the running Python, and closed to other users."""
    try:
        stamps = (venv_dir / ".lock").read_bytes(), (venv_dir / ".python").read_text()
        if any(each.stat().st_mode & stat.S_IWOTH for each in (venv_dir, venv_dir / ".lock")):
            return False  # made by an earlier version under umask 000: any user may have changed it
    except OSError:
        return False
    return stamps == (wanted, _python_id()) and (venv_dir / "bin" / "python").exists()


def changed(venv_dir: Path) -> str:
    """Why a sealed environment must be made again, or empty: its contents differ, or nobody wrote down what they were."""
    if not installed.recorded(venv_dir):
        return "made by an earlier version, which did not record what it installed"
    found = installed.difference(venv_dir, every_file=True)
    return f"not as it was installed: {found}" if found else ""


def read_lock(lock_file: Path) -> bytes:
    """The lock's bytes, which name an environment made from it. Raises PreflightError."""
    try:
        return lock_file.read_bytes()
    except OSError as error:
        raise PreflightError(
            f"{lock_file}: {error.strerror}: the lock is needed to create the environment",
            "git checkout -- requirements",
        ) from error


def _base_python() -> str:
    """The interpreter behind any environment and symlink.

    Its versioned path (…/python3.11) goes into the new environment, so that one whose Python was replaced by the next version
    dangles, and is made anew, instead of breaking in riddles.
    """
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _python_id() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor} {_base_python()}\n"


@contextlib.contextmanager
def _guard(venv_dir: Path, say: Say) -> Iterator[int]:
    """Lock the right to build. The number is the guard's file descriptor, for the children to inherit."""
    guard = os.open(f"{venv_dir}.guard", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(guard, 20, 0).decode(errors="replace").strip()
            say(f"waiting for another ./invoke (pid {holder or 'unknown'}) that is creating {venv_dir.name}")
            fcntl.flock(guard, fcntl.LOCK_EX)
        os.ftruncate(guard, 0)
        os.pwrite(guard, f"{os.getpid()}\n".encode(), 0)
        yield guard
    finally:
        os.close(guard)


@dataclass(frozen=True)
class _Plan:
    """An environment to be made: its folder, its lock, and the lock's bytes."""

    venv_dir: Path
    lock_file: Path
    wanted: bytes
    pth: tuple[str, ...]
    sealed: bool


def _build(plan: _Plan, progress: Progress, guard: int) -> None:
    venv_dir = plan.venv_dir
    new, old = Path(f"{venv_dir}.new"), Path(f"{venv_dir}.old")
    for left_behind in (new, old):
        _rmtree(left_behind)
    try:
        uv_install.make(uv_install.Build(new, _base_python(), plan.lock_file, progress, guard))
        _finish(new, plan)
        if venv_dir.exists():
            venv_dir.rename(old)
        new.rename(venv_dir)
    finally:
        # Leftovers do no harm: the next build starts by deleting them.
        for rest in (new, old):
            installed.unseal(rest)
            shutil.rmtree(rest, ignore_errors=True)
    progress.done()


def _finish(new: Path, plan: _Plan) -> None:
    site = new / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    if plan.pth:
        (site / "prefect-platform.pth").write_text("".join(f"{line}\n" for line in plan.pth))
    _relocate_scripts(new, plan.venv_dir)
    (new / ".python").write_text(_python_id())
    # uv leaves a file of that name which everybody may write.
    (new / ".lock").unlink(missing_ok=True)
    _close(new)
    if plan.sealed:
        installed.seal(new)
    (new / ".lock").write_bytes(plan.wanted)


def _close(folder: Path) -> None:
    """Nobody else may write into it: what is in an environment is run. Packages come with the modes of their makers and caches."""
    for at, folders, files in os.walk(folder):
        for place in (at, *(os.path.join(at, name) for name in (*folders, *files))):
            mode = os.lstat(place).st_mode
            if mode & _WRITABLE_BY_OTHERS and not stat.S_ISLNK(mode):
                os.chmod(place, stat.S_IMODE(mode) & ~_WRITABLE_BY_OTHERS)


def _relocate_scripts(new: Path, venv_dir: Path) -> None:
    """Scripts carry the absolute path of where they were installed; modules and interpreters do not."""
    for script in [new / "pyvenv.cfg", *(new / "bin").iterdir()]:
        if script.is_symlink() or not script.is_file():
            continue
        with script.open("rb") as file:
            if file.read(4) == b"\x7fELF":
                continue
        content = script.read_bytes()
        moved = content.replace(os.fsencode(new), os.fsencode(venv_dir))
        if moved != content:
            script.write_bytes(moved)


def _rmtree(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        installed.unseal(folder)
        shutil.rmtree(folder)


def _say(line: str) -> None:
    """To standard error, if anybody can receive it; past Python's stream, which would keep an unwritable line and fail at exit."""
    if sys.stderr is None:
        return  # it was closed, and its descriptor is by now another file's
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode(errors="replace"))


def main(argv: Sequence[str]) -> int:
    folder, lock_file, *pth = argv
    os.umask(os.umask(_WRITABLE_BY_OTHERS) | _WRITABLE_BY_OTHERS)
    try:
        ensure(Path(folder), Path(lock_file), _say, pth)
    except PreflightError as error:
        _say(f"invoke: {error.message}")
        return 3
    except KeyboardInterrupt:
        _say("invoke: interrupted; the next call rebuilds the environment")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
