"""Another Prefect than the tested one is said before it runs, as far as it can be known, and while it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from prefect_platform.config import prefect_version
from prefect_platform.planning.where import Where
from prefect_platform.targets import launched
from prefect_platform.targets.docker import health

from .conftest import ROOT
from .rules import container

TESTED = "3.8.8"
KNOWN = {"version": TESTED, "mends": ["drain at a stop"], "without": ""}
OTHER = {**KNOWN, "version": "3.9.1", "without": "Prefect 3.9.1 is not one of the tested versions (3.8.8)"}


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("prefecthq/prefect:3.8.8-python3.12", "3.8.8"),
        ("docker.io/prefecthq/prefect:3.9.1-python3.12@sha256:" + "0" * 64, "3.9.1"),
        ("prefecthq/prefect:3.10.0rc1-python3.12", "3.10.0rc1"),
        ("prefecthq/prefect:3-latest", ""),
        ("registry.example/flows:1.2.3", ""),
        ("prefecthq/prefect@sha256:" + "0" * 64, ""),
    ],
)
def test_what_an_image_s_name_says(image: str, version: str) -> None:
    assert prefect_version.of_image(image) == version


def _warnings(image: str, *workers: str | None) -> Sequence[str]:
    declared = [{"name": f"w{number}", "image": each} for number, each in enumerate(workers)]
    return prefect_version.warnings({"image": image, "workers": declared}, TESTED)


def test_each_image_with_another_prefect_is_warned_of_before_it_runs() -> None:
    good, bad = (f"prefecthq/prefect:{version}-python3.12" for version in (TESTED, "3.9.1"))
    assert _warnings(good, None, good, "flows:1") == ()
    (server,) = _warnings(bad, None)
    assert server.startswith("platform.prefect.image: Prefect 3.9.1 is not the tested 3.8.8")
    (worker,) = _warnings(good, good, bad)
    assert worker.startswith("platform.prefect.workers[1].image: Prefect 3.9.1")
    assert "without drain" in worker


def test_the_tested_version_is_one_that_the_launchers_know() -> None:
    pinned = prefect_version.pinned(ROOT)
    for name in ("sqlite_writes", "worker_drain"):
        assert f'"{pinned}"' in (ROOT / "stacks" / "prefect" / f"{name}.py").read_text()


def test_a_launcher_s_words_are_a_line_and_nothing_else_is() -> None:
    assert launched.described(json.dumps(KNOWN)) == "Prefect 3.8.8 with drain at a stop"
    assert launched.described(json.dumps(OTHER)).startswith("Prefect 3.9.1 WITHOUT drain at a stop: ")
    assert launched.described(json.dumps({**KNOWN, "version": "3\x1b[2J\n"})).startswith("Prefect 3[2J with")
    for odd in ("", "ok", "[]", "null", '{"version": "1"}', '{"version": 1, "mends": 2, "without": 3}'):
        assert launched.described(odd) == ""


def test_only_a_file_of_this_start_is_read(tmp_path: Path) -> None:
    file = tmp_path / "launched.json"
    assert launched.read(file, 0) == ""
    file.write_text(json.dumps(KNOWN))
    assert launched.read(file, file.stat().st_mtime) == "Prefect 3.8.8 with drain at a stop"
    assert launched.read(file, file.stat().st_mtime + 1) == "", "written by an earlier start"
    link = tmp_path / "link"
    link.symlink_to(file)
    assert launched.read(link, 0) == "", "flows may write there"


def _probed(*probes: tuple[int, str]) -> dict[str, Any]:
    log = [{"ExitCode": code, "Output": output} for code, output in probes]
    return container("prefect", "worker", Health={"Status": "healthy", "Log": log})


def test_status_shows_what_the_last_good_health_check_said() -> None:
    each = health.process(_probed((0, "old"), (0, json.dumps(OTHER)), (1, "refused")))
    assert each.detail.startswith("healthy, 0 restarts, image:1, Prefect 3.9.1 WITHOUT drain at a stop")
    assert health.process(_probed((0, ""))).detail == "healthy, 0 restarts, image:1"


def test_the_health_check_prints_the_launcher_s_words(tmp_path: Path, healthy_port: int) -> None:
    file = tmp_path / "launched.json"

    def probe(path: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-I", "-S", "-c", Where.http_probe(healthy_port, path, str(file))]
        return subprocess.run(words, capture_output=True, text=True)

    without = probe("/base/ready")
    assert (without.returncode, without.stdout) == (0, "")
    file.write_text(json.dumps(KNOWN))
    assert json.loads(probe("/base/ready").stdout) == KNOWN
    wrong = probe("/other")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == "HTTP/1.0 503 Service Unavailable\n"
