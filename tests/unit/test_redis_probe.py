"""Redis's health check leaves nothing behind: database 0 stays empty, and number 1 has Prefect's keys alone."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from .conftest import ROOT


def test_the_probe_writes_into_prefects_database_for_a_moment(tmp_path: Path) -> None:
    cli = tmp_path / "redis-cli"
    cli.write_text('#!/bin/sh\nprintf "%s\\n" "$*" >>"$SEEN"\necho PONG\n')
    cli.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "REDIS_PASSWORD": "s", "SEEN": str(tmp_path / "seen")}
    subprocess.run(["/bin/sh", str(ROOT / "stacks/redis/healthy.sh")], env=environ, check=True)
    ping, *writing = map(shlex.split, (tmp_path / "seen").read_text().splitlines())
    assert ping == ["-e", "ping"]
    for words in writing:
        assert words[:2] == ["-n", "1"]
        assert words[-2:] == ["PX", "1"]
    assert writing, "that it may write is what the probe is for"
