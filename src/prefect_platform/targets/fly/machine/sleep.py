"""Decides when the machine sleeps: Fly's edge sees requests only, not a socket that stays open, a run that is active nor one that is due.

    sleep.py watch    as the ordinary user: looks, and decides
    sleep.py ask      as root, for Fly's socket is root's: asks Fly for the one thing it was started for, when the other says so

Standard library alone: each of the two is small beside what it watches.
"""

from __future__ import annotations

import datetime
import http.client
import json
import os
import re
import socket
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PIPE, ACTIVE = Path("/dev/shm/platform-sleep"), Path("/dev/shm/platform/active")
"""A byte in the first one is the decision; the second one's time is when an operator last ran something here."""
FLY = "/.fly/api"
SOON_MINUTES = 15
"""A run that is due within these keeps the machine awake, and one that was due as long ago may still be picked up."""
_BUSY = {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}
_DEFERRED = {"state": {"type": {"any_": ["SCHEDULED"]}}, "flow_run_id": {"is_null_": True}}
"""Task runs of `task.delay()`, which wait for whoever serves the task. What a flow runs itself is at most due again (a retry)."""
_COUNTED = re.compile(r"^traefik_router_requests_total\{(?P<labels>[^}]*)\} (?P<number>\S+)$", re.MULTILINE)
_OURS = ("ping@", "prefect-ready@", "ops-")
_VERIFIER = "internal-verify@"
"""Asked about each request, and again about each that stays open, sockets above all. It answers 200 for those that may."""
_REFUSED = ("400", "401", "403", "404", "405", "429")


def requests(metrics: str) -> float:
    """A number that grows with each request that somebody meant, and while one stays open: not with the health check's, nor with what was refused."""
    total = 0.0
    for found in _COUNTED.finditer(metrics):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', found["labels"]))
        router, code = labels["router"], labels["code"]
        counts = code == "200" if router.startswith(_VERIFIER) else code not in _REFUSED
        if counts and not router.startswith(_OURS):
            total += float(found["number"])
    return total


def watch(rule: Mapping[str, Any]) -> None:
    """Look every few seconds; after `minutes` without a sign of work say so to the other process, and begin anew when it is over."""
    patience = rule["minutes"] * 60
    seen, since = -1.0, time.time()
    while True:
        time.sleep(min(10.0, patience / 4))
        try:
            now = requests(_get(rule["metrics"]))
            working = _working(rule["api"])
        except (OSError, ValueError, http.client.HTTPException) as error:
            # A service that cannot be queried may be at work: it is starting, or has a problem that must stay visible.
            now, working = -1.0, f"no answer ({error})"
        if working or now != seen or _operated() > since:
            seen, since = now, time.time()
        elif time.time() - since > patience:
            _say(f"nothing to do for {rule['minutes']:g} minutes: {rule['verb']}")
            _decide()
            time.sleep(10)
            # Awake again, or never asleep: the full idle time starts over.
            since = time.time()


def _working(api: str) -> str:
    """Prefect's current work, or an empty string."""
    for kind, wanted in (("flow_runs", _BUSY), ("task_runs", _BUSY), ("task_runs", _DEFERRED)):
        if number := _count(api, kind, wanted):
            return f"{number} {kind}"
    now, reach = datetime.datetime.now(datetime.UTC), datetime.timedelta(minutes=SOON_MINUTES)
    due = {"after_": (now - reach).isoformat(), "before_": (now + reach).isoformat()}
    number = _count(
        api, "flow_runs", {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": due}
    )
    return f"{number} runs are due" if number else ""


def _count(api: str, kind: str, wanted: Mapping[str, Any]) -> int:
    body = json.dumps({kind: wanted}).encode()
    asked = urllib.request.Request(
        f"{api}/{kind}/count", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return int(answer.read())


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def _operated() -> float:
    return ACTIVE.stat().st_mtime if ACTIVE.exists() else 0.0


def _decide() -> None:
    try:
        pipe = os.open(PIPE, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        return _say(f"cannot sleep, the process that asks Fly is gone: {error}")
    os.write(pipe, b"\n")
    os.close(pipe)
    return None


def ask(rule: Mapping[str, Any]) -> None:
    """Wait for the decision, ask Fly, wait for the next. Nothing that comes through the pipe chooses what is asked."""
    app, machine = os.environ["FLY_APP_NAME"], os.environ["FLY_MACHINE_ID"]
    # For writing as well: a pipe without a writer would end.
    pipe = os.open(PIPE, os.O_RDWR)
    while os.read(pipe, 1):
        connection = _Socket("flaps", timeout=60)
        try:
            connection.request("POST", f"/v1/apps/{app}/machines/{machine}/{rule['verb']}")
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
            _say(f"Fly says {answer.status} {text[:200]}")
        except (OSError, http.client.HTTPException) as error:
            _say(f"Fly cannot be asked: {error}")
        finally:
            connection.close()


class _Socket(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(FLY)


def _say(text: str) -> None:
    print(f"sleep.py: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    chosen = json.loads((HERE / "services.json").read_text())["sleep"]
    {"watch": watch, "ask": ask}[sys.argv[1]](chosen)
