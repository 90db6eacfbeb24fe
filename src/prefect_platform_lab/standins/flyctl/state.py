"""Fly's side between calls, the faults that a test asked for, and the engine in which machines run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from . import EMPTY

Json = dict[str, Any]
FOLDER = Path(os.environ.get("FLY_STANDIN", "."))
REGISTRY = "registry.fly.io"
REGIONS = ("ams", "fra", "iad", "sjc")


class State:
    """Fly's side, kept between calls."""

    def __init__(self) -> None:
        self.file = FOLDER / "fly.json"
        self.data: Json = json.loads(self.file.read_text()) if self.file.exists() else dict(EMPTY)

    def save(self) -> None:
        self.file.write_text(json.dumps(self.data, indent=1))

    def app(self, name: str) -> Json:
        if name not in self.data["apps"]:
            fail(f'Could not find App "{name}"')
        found: Json = self.data["apps"][name]
        return found


def fail(message: str) -> NoReturn:
    print(f"Error: {message}", file=sys.stderr)
    raise SystemExit(1)


def show(data: Any) -> None:
    print(json.dumps(data, indent=4))


def option(words: list[str], *names: str, default: str = "") -> str:
    """The value of an option."""
    return next((words[words.index(name) + 1] for name in names if name in words), default)


def fault(kind: str) -> Json | None:
    """A fault that a test has injected: used up by this."""
    file = FOLDER / "faults.json"
    faults: dict[str, Json] = json.loads(file.read_text()) if file.exists() else {}
    found = faults.pop(kind, None)
    if found is not None:
        file.write_text(json.dumps(faults))
    return found


def docker(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        fail(f"docker {words[0]}: {done.stderr[-500:]}")
    return done


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
