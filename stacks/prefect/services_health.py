"""Are the background services alive and at work? Exit 0, or 1 with a line that says what is wrong.

Prefect has no health signal for them. Two facts of pydocket 0.27 in Redis tell: every worker process renews its score in
`prefect:workers` (unix time) each two seconds, which a dead or frozen process does not; and the periodic tasks stand in
`prefect:queue` with the time at which they are due, which a scheduler that no longer runs them lets pass.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import Any

import redis

HEARTBEAT_SECONDS = 20
OVERDUE_SECONDS = 90


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
        wrong = f"Redis: {error}"
    if wrong:
        print(wrong, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
