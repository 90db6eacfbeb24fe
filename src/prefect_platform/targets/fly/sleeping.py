"""What a machine that sleeps when nothing is to do will not do, told before somebody waits for it. Pure."""

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
        f"{KEY}: the machine {does} itself after {fly['idle_minutes']:g} minutes without a request, with no run going on and none due within 15"
    ]
    found.append(
        f"{KEY}: only a request from outside wakes it. A schedule or an automation does not: runs that fall due meanwhile start late, after the next request"
    )
    if values["prefect"]["workers"]:
        found.append(
            f"{KEY}: the workers inside sleep too; workers elsewhere keep it awake, because each of their polls is a request"
        )
    return tuple(found)
