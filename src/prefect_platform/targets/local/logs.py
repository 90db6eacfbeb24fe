"""Log files of the local target, as supervisord writes and rotates them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path


def tail(file: Path, lines: int) -> list[str]:
    """The last lines; none when there is no file."""
    try:
        with file.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - lines * 2000))
            return log.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []


def follow(files: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """What is written from now on, as (name, line), without end."""
    seen = {name: _size(file) for name, file in files.items()}
    while True:
        for name, file in files.items():
            size = _size(file)
            if size == seen[name]:
                continue
            with file.open("rb") as log:
                log.seek(seen[name] if size > seen[name] else 0)  # smaller: rotated away
                seen[name] = size
                yield from ((name, line) for line in log.read().decode(errors="replace").splitlines())
        time.sleep(0.3)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
