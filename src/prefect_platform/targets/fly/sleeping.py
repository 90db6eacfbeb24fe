"""What a sleeping machine does not do, reported before it surprises a user. Pure."""

from __future__ import annotations

from typing import Any

KEY = "platform.fly.auto_stop"


def notes(values: dict[str, Any]) -> tuple[str, ...]:
    """Sentences for a person who sets up target fly; none for a machine that stays awake."""
    fly = values["fly"]
    if fly["auto_stop"] == "off":
        return ()
    does = {"suspend": "suspends", "stop": "stops"}[fly["auto_stop"]]
    found = [
        f"{KEY}: the machine {does} itself after {fly['idle_minutes']:g} minutes without a request, unless a run is active or due within 15"
    ]
    found.append(
        f"{KEY}: only an outside request wakes it. Schedules and automations do not: runs due meanwhile start late, after the next request"
    )
    if values["prefect"]["workers"]:
        found.append(
            f"{KEY}: workers inside sleep too; remote workers keep it awake, because each poll is a request"
        )
    return tuple(found)
