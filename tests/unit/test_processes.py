"""What is said of a process that ends again and again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from prefect_platform.targets.local.processes import judge, unasked_ends

NOW = 1_800_000_000


def _info(state: str, age: float) -> dict[str, Any]:
    return {"statename": state, "now": NOW, "start": NOW - age, "spawnerr": "", "description": "as it says"}


def test_one_that_keeps_ending_fails_until_it_has_stayed_up() -> None:
    ends = [NOW - 50.0, NOW - 40.0, NOW - 30.0]
    assert judge(_info("RUNNING", 5), ends) == ("FAILING", "exited 3 times within a minute")
    assert judge(_info("RUNNING", 25), ends)[0] == "RUNNING"
    assert judge(_info("RUNNING", 5), ends[1:])[0] == "RUNNING"


def test_a_start_after_an_end_is_not_health() -> None:
    assert judge(_info("STARTING", 1), [])[0] == "STARTING"
    assert judge(_info("STARTING", 1), [NOW - 90.0]) == (
        "BACKOFF",
        "it ended 90 s ago, restarting",
    )


def test_a_start_or_stop_that_was_asked_for_is_a_new_beginning(tmp_path: Path) -> None:
    log = tmp_path / "supervisord.log"
    assert unasked_ends(log, {}) == {}

    def line(second: int, text: str) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOW + second))
        return f"{when},123 INFO {text}\n"

    died = "(exit status 1; not expected)"
    lines = [line(0, f"exited: a {died}"), line(1, f"exited: b {died}"), line(2, f"exited: c {died}")]
    lines += [line(3, "stopped: a (exit status 0)"), line(4, f"exited: a {died}")]
    log.write_text("".join(lines))
    assert unasked_ends(log, {"b": NOW + 1.5}) == {"a": [NOW + 4], "c": [NOW + 2]}
    log.write_text("".join([*lines, line(5, "supervisord started with pid 7"), line(6, f"exited: b {died}")]))
    assert unasked_ends(log, {}) == {"b": [NOW + 6]}
