"""Does somebody execute what is Running? A run that nobody executes holds its slots and looks alive."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median_low

from prefect_platform.config.objects import HEARTBEAT
from prefect_platform.errors import CheckFailed
from prefect_platform.provisioning.prefect.api import Json, PrefectApi
from prefect_platform.provisioning.prefect.heartbeat import seconds_since

from . import busy

SILENT_SECONDS = 330.0
"""Who has been silent for less is not looked at more closely."""
OUTAGE_SECONDS = 210.0
MISSED = 3
"""reconcile.py ends a run after three of its intervals without a heartbeat, and not before one interval and OUTAGE_SECONDS."""
GRACE_SECONDS = 90.0
DEFAULT_INTERVAL = 180.0
ENDED_BY_US = "Ended by the platform: "
"""Start of the message of a run that reconcile.py ended."""
_NAMED = 3
_RECENT = 3600.0
_LOOKED_AT = 4


def runs(api: PrefectApi, services: str) -> str:
    """Every run that is Running has a process that says so, if it ever did. Raises CheckFailed, ApiError."""
    running = api.flow_runs(
        {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}, "sort": "START_TIME_ASC"}
    )
    beats = api.newest_events(HEARTBEAT, [_resource(run) for run in running])
    silent = [run for run in running if _is_silent(run, beats)]
    dead = [run for run in silent if _is_dead(api, run)]
    if dead:
        longest = max(seconds_since(beats[_resource(run)]["received"]) for run in dead)
        raise CheckFailed(
            f"nobody executes {_listed(dead)}: Running, but the last heartbeat was {longest / 60:.0f} min ago, and the background "
            "service that ends such runs has not",
            f"./invoke prefect.restart --service {services}; then wait five minutes",
        )
    mute = sum(_resource(run) not in beats for run in running)
    told = [
        f"{len(running)} running" if running else "none is running",
        f"{mute} of them send no heartbeats (by their settings)" if mute else "",
        _ended_by_us(api),
        busy.starving(api),
    ]
    return ", ".join(each for each in told if each)


def _resource(run: Json) -> str:
    return f"prefect.flow-run.{run['id']}"


def _is_silent(run: Json, beats: Mapping[str, Json]) -> bool:
    """For so long that it is looked at more closely."""
    last = beats.get(_resource(run))
    if last is None:
        return False
    return min(seconds_since(last["received"]), seconds_since(run["state"]["timestamp"])) > SILENT_SECONDS


def _is_dead(api: PrefectApi, run: Json) -> bool:
    return is_overdue(api.last_events(HEARTBEAT, _resource(run), _LOOKED_AT), time.time())


def is_overdue(beats: Sequence[Json], now: float) -> bool:
    """Whether the next of these heartbeats, newest first, has not come for three of their own intervals and a while."""
    sent = [datetime.fromisoformat(each["occurred"]).timestamp() for each in beats]
    gaps = [later - earlier for later, earlier in pairwise(sent)]
    interval = median_low(gaps) if gaps else DEFAULT_INTERVAL
    allowed = max(MISSED * interval, interval + OUTAGE_SECONDS) + GRACE_SECONDS
    return now - datetime.fromisoformat(beats[0]["received"]).timestamp() > allowed


def _ended_by_us(api: PrefectApi) -> str:
    after = datetime.fromtimestamp(time.time() - _RECENT, UTC).isoformat()
    wanted = {"state": {"type": {"any_": ["CRASHED"]}}, "end_time": {"after_": after}}
    crashed = api.flow_runs({"flow_runs": wanted, "sort": "END_TIME_DESC"})
    ended = [run for run in crashed if str(run["state"].get("message") or "").startswith(ENDED_BY_US)]
    return f"ended in the last hour because nobody executed it: {_listed(ended)}" if ended else ""


def _listed(found: Sequence[Json]) -> str:
    named = ", ".join(str(run["name"]) for run in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"run {named}{more}" if len(found) == 1 else f"{len(found)} runs ({named}{more})"
