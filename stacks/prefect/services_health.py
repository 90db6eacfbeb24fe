"""Are the background services alive and at work? Exit 0, or 1 with a line that says what is wrong.

Docker does not restart what is unhealthy: so services that have been dead or frozen for a while are ended from here, and their
container starts anew.

Prefect has no health signal for them. Two facts of pydocket 0.27 in Redis tell: every worker process renews its score in
`prefect:workers` (unix time) each two seconds, which a dead or frozen process does not; and the periodic tasks stand in
`prefect:queue` with the time at which they are due, which a scheduler that no longer runs them lets pass.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import redis

HEARTBEAT_SECONDS = 20
OVERDUE_SECONDS = 90
PATIENCE_SECONDS = 30
"""So long may they be found wrong before they are ended: a Redis that restarts is not their fault."""
START_SECONDS = 90
"""They are young: a slow machine may take that long to start them."""
SINCE = Path("/tmp/services-wrong-since")


def problem(connection: redis.Redis, host: str, now: float) -> str | None:
    """What is wrong with the services of this host name, or None."""
    beats = [when for name, when in _scores(connection, "prefect:workers") if name.split("#")[0] == host]
    if not beats:
        return "no heartbeat of the background services of this container"
    age = now - max(beats)
    if age > HEARTBEAT_SECONDS:
        return f"last heartbeat {age:.0f} s ago: dead or frozen"
    late = max((now - when for _, when in _scores(connection, "prefect:queue")), default=0.0)
    if late > OVERDUE_SECONDS:
        return f"a periodic task has been due for {late:.0f} s: the scheduler does not run"
    return None


def judge(wrong: str | None, now: float) -> None:
    """Remember since when they are wrong, and end them when that is too long."""
    if not wrong:
        SINCE.unlink(missing_ok=True)
        return
    try:
        since = float(SINCE.read_text())
    except (OSError, ValueError):
        SINCE.write_text(str(now))
        return
    if now - since > PATIENCE_SECONDS:
        SINCE.unlink(missing_ok=True)
        _end_services()


def _end_services() -> None:
    """The children of process 1, which is the container's init; those that are old enough to have started. KILL: a frozen
    process hears nothing else.
    """
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            _, parent, *more = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        age = uptime - int(more[17]) / os.sysconf("SC_CLK_TCK")
        if parent == "1" and age > START_SECONDS:
            print(f"ending process {folder.name}", file=sys.stderr)
            os.kill(int(folder.name), signal.SIGKILL)


def _scores(connection: redis.Redis, key: str) -> list[tuple[str, float]]:
    found: Any = connection.zrange(key, 0, -1, withscores=True)
    return [(name.decode(errors="replace"), float(score)) for name, score in found]


def main() -> int:
    """Look once."""
    environ = os.environ
    connection = redis.Redis(
        host=environ["PREFECT_REDIS_MESSAGING_HOST"],
        port=int(environ["PREFECT_REDIS_MESSAGING_PORT"]),
        db=int(environ["PREFECT_REDIS_MESSAGING_DB"]),
        password=environ.get("PREFECT_REDIS_MESSAGING_PASSWORD"),
        socket_timeout=4,
        socket_connect_timeout=4,
    )
    try:
        wrong = problem(connection, socket.gethostname(), time.time())
    except redis.RedisError as error:
        print(f"Redis: {error}", file=sys.stderr)
        SINCE.unlink(missing_ok=True)
        return 1
    if wrong:
        print(wrong, file=sys.stderr)
    judge(wrong, time.time())
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
