"""What every refused command has in common."""

from __future__ import annotations

from pathlib import Path

from .conftest import Clone


def state_of(platform: Clone) -> Path:
    return platform.root / ".state" / "local"


def traces(platform: Clone) -> dict[str, object]:
    """What a refused command must leave alone: processes, and every file that setup writes."""
    files = (path for path in state_of(platform).rglob("*") if not {"data", "logs", "lock"} & set(path.parts))
    seen: dict[str, object] = {str(path): path.lstat().st_mtime_ns for path in files if path.is_file()}
    return {**seen, "processes": platform.pids()}


def refused(platform: Clone, *words: str, code: int, **env: str) -> str:
    """Run it; it must end with that code and one paragraph that has a hint. Returns the paragraph."""
    said = platform.invoke(*words, code=code, cwd=None, **env).stderr.strip()
    assert "Traceback" not in said
    assert "\n\n" not in said
    assert "\nhint: " in said
    return said
