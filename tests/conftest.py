"""What every test relies on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).parent

# A runner that starts us in the background (`&`, nohup) leaves SIGINT ignored, and all that we start would inherit that: no Ctrl-C
# would reach it. A handler, unlike "ignored", is not inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two lots that can run side by side (`-n 2 --dist loadgroup`): what needs the lab, in the files' order, and the rest."""
    for item in items:
        lab = "lab" in item.path.relative_to(ROOT).parts
        item.add_marker(pytest.mark.xdist_group("lab" if lab else "here"))
