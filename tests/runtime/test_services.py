"""What services.py changes in Prefect's background services. The services themselves run in tests/lab."""

from __future__ import annotations

import subprocess
import sys

from tests.unit.conftest import ROOT

SHOW = """
import services
services.take_over_soon()
from docket import Docket, Worker
print(Worker(Docket("x", url="memory://")).redelivery_timeout.total_seconds(), Worker(Docket("x", url="memory://"), concurrency=3).concurrency)
"""


def test_what_a_stop_interrupts_is_taken_over_soon() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", SHOW],
        cwd=ROOT / "stacks" / "prefect",
        capture_output=True,
        text=True,
    )
    assert shown.stdout.split() == ["30.0", "3"], shown.stderr
