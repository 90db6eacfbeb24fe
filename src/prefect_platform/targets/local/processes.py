"""What supervisord says of a process, judged: one that keeps ending is failing, also in the seconds in which it happens to run."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TOO_MANY_ENDS = 3
_WITHIN = 60
_EVENT = re.compile(
    r"^(?P<when>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ \w+ "
    r"(?:(?P<what>exited|stopped): (?P<name>\S+) |(?P<begin>supervisord started with pid))"
)


def unasked_ends(log: Path, since: Mapping[str, float]) -> dict[str, list[float]]:
    """When each process ended unasked, from supervisord's log.

    A requested start or stop is a new beginning: what failed before was repaired. `since`: when a process was last started on
    request, as supervisord writes nothing of a stop between two tries.
    """
    ends: dict[str, list[float]] = {}
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 65536))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    for event in filter(None, map(_EVENT.match, lines)):
        if event["begin"]:
            ends.clear()
        elif event["what"] == "stopped":
            ends.pop(event["name"], None)
        else:
            when = time.mktime(time.strptime(event["when"], "%Y-%m-%d %H:%M:%S"))
            if when >= since.get(event["name"], 0):
                ends.setdefault(event["name"], []).append(when)
    return ends


def judge(info: Mapping[str, Any], ends: list[float]) -> tuple[str, str]:
    """State and detail of supervisord's record `info`: its own, FAILING, or BACKOFF for a start that follows an end."""
    now, age = info["now"], info["now"] - info["start"]
    recent = sum(now - end < _WITHIN for end in ends)
    # Who has been up for longer than that many ends within that time allow has recovered.
    recovered = info["statename"] == "RUNNING" and age > _WITHIN / _TOO_MANY_ENDS
    if recent >= _TOO_MANY_ENDS and not recovered:
        return "FAILING", f"exited {recent} times within a minute"
    if info["statename"] == "STARTING" and ends:
        return "BACKOFF", f"it ended {now - ends[-1]:.0f} s ago, restarting"
    running = info["statename"] == "RUNNING"  # supervisord then describes what we show ourselves: pid and age
    return info["statename"], "" if running else info["spawnerr"] or info["description"]
