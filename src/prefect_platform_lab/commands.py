"""Running the lab's programs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect_platform.errors import ApplyError

WHEN_LOST = "run ./invoke lab.up again; ./invoke lab.down --all starts from scratch"


def run(words: Sequence[str | Path], *, env: Mapping[str, str] | None = None, timeout: float = 120) -> str:
    """Its standard output. Raises ApplyError with the last lines of its output."""
    code, out, err = attempt(words, env=env, timeout=timeout)
    if code:
        said = "\n".join((err or out).strip().splitlines()[-8:])
        raise ApplyError(f"lab: `{' '.join(map(str, words))}` ended with {code}: {said}", WHEN_LOST)
    return out


def attempt(
    words: Sequence[str | Path], *, env: Mapping[str, str] | None = None, timeout: float = 120
) -> tuple[int, str, str]:
    """Exit code, output, errors; 127 for a missing program, 124 after the timeout."""
    try:
        done = subprocess.run(
            [str(word) for word in words],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except FileNotFoundError:
        return 127, "", f"{words[0]}: not found"
    except subprocess.TimeoutExpired:
        return 124, "", f"no answer within {timeout:.0f} s"
    return done.returncode, done.stdout, done.stderr
