"""Do schedules create runs? A scheduler that fails inside looks healthy otherwise (seen with Prefect 3.8.8 on SQLAlchemy 2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_platform.errors import CheckFailed
from prefect_platform.provisioning.prefect.api import PrefectApi
from prefect_platform.provisioning.prefect.heartbeat import seconds_since

GRACE_SECONDS = 120.0
"""The scheduler looks at what changed lately every five seconds, at everything once a minute."""
_LOOKED_AT = 20
_MONTH = 31 * 86400


def schedules(api: PrefectApi, grace: float = GRACE_SECONDS) -> str:
    """Every deployment that is scheduled has a planned run. The newest twenty are looked at. Raises CheckFailed, ApiError."""
    scheduled = [each for each in api.deployments(_LOOKED_AT) if _should_have_runs(each, grace)]
    for each in scheduled:
        if not api.planned_runs(each["id"]):
            raise CheckFailed(
                f"deployment {each['name']} has an active schedule but no scheduled run: the scheduler is not working",
                "./invoke prefect.logs --service services",
            )
    return (
        f"{len(scheduled)} scheduled deployments have planned runs" if scheduled else "nothing is scheduled"
    )


def _should_have_runs(deployment: Mapping[str, Any], grace: float) -> bool:
    if deployment.get("paused") or seconds_since(deployment["updated"]) < grace:
        return False
    return any(each["active"] and _is_endless(each["schedule"]) for each in deployment.get("schedules") or ())


def _is_endless(schedule: Mapping[str, Any]) -> bool:
    """Whether it is due every month: Prefect plans a hundred days ahead. A rule (rrule) may have an end."""
    if "interval" in schedule:
        return float(schedule["interval"]) <= _MONTH
    cron = str(schedule.get("cron", "")).split()
    return len(cron) == 5 and cron[3] == "*" and cron[2] == "*"
