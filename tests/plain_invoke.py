"""An environment with Invoke alone, as `pipx install invoke` makes it; from an environment that has Invoke, without an index."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def make(folder: Path, source: Path) -> Path:
    """Make the environment in `folder` with the Invoke of environment `source`; return its `invoke`."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(folder)], check=True)
    (theirs,), (site,) = (each.glob("lib/python*/site-packages") for each in (source, folder))
    for package in theirs.glob("invoke*"):
        shutil.copytree(package, site / package.name)
    program = folder / "bin" / "invoke"
    program.write_text((source / "bin" / "invoke").read_text().replace(str(source), str(folder)))
    program.chmod(0o755)
    return program
