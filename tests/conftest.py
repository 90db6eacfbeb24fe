"""What every test relies on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

# A runner that starts us in the background (`&`, nohup) leaves SIGINT ignored, and all that we start would inherit that: no Ctrl-C
# would reach it. A handler, unlike "ignored", is not inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)

CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


NOTES_VARIABLE = "PLATFORM_TEST_NOTES"
"""A file for `./invoke test`: a JSON line when a test begins and after each of its phases."""


def _note(**line: object) -> None:
    if file := os.environ.get(NOTES_VARIABLE):
        with Path(file).open("a") as notes:
            notes.write(json.dumps(line) + "\n")


def pytest_runtest_logstart(nodeid: str) -> None:
    _note(test=nodeid, when="begin")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(test=report.nodeid, when=report.when, seconds=report.duration, outcome=report.outcome)


@pytest.fixture
def browser() -> Iterator[BrowserContext]:
    """A new person's browser: Debian's Chromium with an empty profile."""
    from playwright.sync_api import sync_playwright

    assert shutil.which("chromium"), "Debian's chromium is needed: .ci/install-debian"
    chromium = Path(__file__).with_name("chromium.py")
    folder = tempfile.mkdtemp(prefix="chromium-")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder, executable_path=chromium, headless=True, args=CHROMIUM_FLAGS
        )
        yield context
        context.close()
    shutil.rmtree(folder, ignore_errors=True)
