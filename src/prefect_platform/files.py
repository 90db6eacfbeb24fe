"""Files written whole or not at all, and read with a word about what is wrong with them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import yaml

from .errors import ApplyError, PlatformError, PreflightError

_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_WRITABLE_BY_OTHERS = 0o022


def make_private(folder: Path) -> None:
    """Create a folder for this user alone, and its parents, whatever the umask. Raises PreflightError where it cannot be."""
    try:
        for each in reversed([folder, *folder.parents]):
            # Most exist: looking costs less than a failed attempt.
            if not each.exists():
                with contextlib.suppress(FileExistsError):
                    each.mkdir(mode=0o700)
                    each.chmod(0o700)
        folder.mkdir(exist_ok=True)  # says what is wrong where something else has that name
    except OSError as error:
        raise PreflightError(
            f"{folder}: {error.strerror}", "set platform.state to a writable folder"
        ) from None


def close_to_others(folder: Path) -> None:
    """Nobody else may write into a folder of ours, which an earlier version may have left open. Another user's stays as it is."""
    with contextlib.suppress(FileNotFoundError):
        found = folder.lstat()
        if (
            found.st_uid == os.geteuid()
            and stat.S_ISDIR(found.st_mode)
            and found.st_mode & _WRITABLE_BY_OTHERS
        ):
            folder.chmod(stat.S_IMODE(found.st_mode) & ~_WRITABLE_BY_OTHERS)


def read_mapping(file: Path, hint: str) -> dict[str, Any]:
    """The JSON mapping in a file; empty without a file. Raises PlatformError: continuing would overwrite what may be repaired."""
    try:
        data = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PlatformError(
            f"{file}: {error.strerror}; nothing was changed", "make it readable for this user"
        ) from None
    except ValueError:  # neither JSON nor, maybe, text
        data = None
    if not isinstance(data, dict):
        raise PlatformError(f"{file}: corrupt, not a JSON mapping; nothing was changed", hint)
    return data


def parse_yaml(text: str | bytes) -> Any:
    """As `yaml.safe_load`, by libyaml where PyYAML has it: five times faster. Raises yaml.YAMLError."""
    return yaml.load(text, _YAML_LOADER)


def write_atomic(file: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace `file` in one step, durable before visible; a reader sees the old or the new bytes, never a part."""
    make_private(file.parent)
    try:
        # The suffix matters: Traefik would load a temporary `*.yml` (its file provider reads dot-files too).
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".tmp")
    except OSError as error:
        raise _told(file, error) from None
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(name, mode)
        os.replace(name, file)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise _told(file, error) from None
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def delete_folder(folder: Path) -> None:
    """With all that is in it, also in read-only folders. Raises ApplyError for what cannot be deleted; the rest is gone then."""
    if not folder.is_dir():
        return
    _open(folder)
    for path, names, _ in os.walk(folder):
        for name in names:  # before it is walked into
            _open(Path(path, name))
    failed: list[OSError] = []
    for path, names, others in os.walk(folder, topdown=False, onerror=failed.append):
        for each in (
            *(Path(path, name) for name in (*others, *names)),
            *((folder,) if path == str(folder) else ()),
        ):
            try:
                each.rmdir() if each.is_dir() and not each.is_symlink() else each.unlink(missing_ok=True)
            except OSError as error:
                failed.append(error)
    # A folder that is not empty only says that something in it stays.
    if why := [each for each in failed if each.errno != errno.ENOTEMPTY]:
        more = f", and {len(why) - 1} more" if len(why) > 1 else ""
        raise ApplyError(
            f"{why[0].filename}: cannot be deleted: {why[0].strerror}{more}",
            "delete it as its owner, then run the command again",
        )


def _open(folder: Path) -> None:
    """Let its user list, enter and change it; of another user's folder deletion says what is wrong."""
    if not folder.is_symlink():
        with contextlib.suppress(OSError):
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | stat.S_IRWXU)


def _told(file: Path, error: OSError) -> ApplyError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    what = "free disk space" if full else "fix the permissions"
    return ApplyError(f"{file}: {error.strerror}", f"{what} there, then run the command again")
