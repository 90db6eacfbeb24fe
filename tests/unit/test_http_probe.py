"""The health check of containers that have Python and no curl."""

from __future__ import annotations

import subprocess
import sys

from prefect_platform.planning.where import Where


def _probe(port: int, path: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-I", "-S", "-c", Where.http_probe(port, path)]
    return subprocess.run(words, capture_output=True, text=True)


def test_only_an_answer_of_200_is_well(healthy_port: int) -> None:
    assert _probe(healthy_port, "/base/ready").returncode == 0
    wrong = _probe(healthy_port, "/other")
    assert (wrong.returncode, wrong.stderr) == (1, "HTTP/1.0 503 Service Unavailable\n")


def test_nobody_who_listens_is_told() -> None:
    assert "Connection refused" in _probe(1, "/").stderr
