"""Are the background services alive and at work? Exit 0, or 1 with a line that says what is wrong.

Docker does not restart what is unhealthy: so services that have been dead or frozen for a while are ended from here, and their
container starts anew.

Prefect has no health signal for them. Two facts of pydocket 0.27 in Redis tell: every worker process renews its score in
`prefect:workers` (unix time) each two seconds, which a dead or frozen process does not; and the periodic tasks stand in
`prefect:queue` with the time at which they are due, which a scheduler that no longer runs them lets pass.

It runs every ten seconds for as long as the platform does. So it asks Redis over a plain socket and starts with `python -I -S`: the
import of Redis' client library alone takes ten times what the rest does.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from io import BufferedReader

HEARTBEAT_SECONDS = 20
OVERDUE_SECONDS = 90
PATIENCE_SECONDS = 30
"""So long may they be found wrong before they are ended: a Redis that restarts is not their fault."""
START_SECONDS = 90
"""They are young: a slow machine may take that long to start them."""
SINCE = "/tmp/services-wrong-since"
SOCKET_SECONDS = 4
Reply = str | list["Reply"] | None
Ask = Callable[..., Reply]
"""A command's words → Redis' answer. Raises OSError or ValueError when there is none."""


def problem(ask: Ask, host: str, now: float) -> str | None:
    """What is wrong with the services of this host name, or None."""
    beats = [when for name, when in _scores(ask, "prefect:workers") if name.split("#")[0] == host]
    if not beats:
        return "no heartbeat of the background services of this container"
    age = now - max(beats)
    if age > HEARTBEAT_SECONDS:
        return f"last heartbeat {age:.0f} s ago: dead or frozen"
    late = max((now - when for _, when in _scores(ask, "prefect:queue")), default=0.0)
    if late > OVERDUE_SECONDS:
        return f"a periodic task has been due for {late:.0f} s: the scheduler does not run"
    return None


def judge(wrong: str | None, now: float) -> None:
    """Remember since when they are wrong, and end them when that is too long."""
    if not wrong:
        _forget()
        return
    try:
        with open(SINCE) as file:
            since = float(file.read())
    except (OSError, ValueError):
        with open(SINCE, "w") as file:
            file.write(str(now))
        return
    if now - since > PATIENCE_SECONDS:
        _forget()
        _end_services()


def _forget() -> None:
    if os.path.exists(SINCE):
        os.unlink(SINCE)


def _end_services() -> None:
    """The children of process 1, which is the container's init; those that are old enough to have started. KILL: a frozen
    process hears nothing else.
    """
    uptime = float(_read("/proc/uptime").split()[0])
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            _, parent, *more = _read(f"/proc/{name}/stat").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        age = uptime - int(more[17]) / os.sysconf("SC_CLK_TCK")
        if parent == "1" and age > START_SECONDS:
            print(f"ending process {name}", file=sys.stderr)
            os.kill(int(name), signal.SIGKILL)


def _read(file: str) -> str:
    with open(file, errors="replace") as opened:
        return opened.read()


def _scores(ask: Ask, key: str) -> list[tuple[str, float]]:
    found = ask("ZRANGE", key, "0", "-1", "WITHSCORES")
    if not isinstance(found, list):
        raise ValueError(f"no list at {key}")
    return [(str(name), float(str(score))) for name, score in zip(found[::2], found[1::2], strict=True)]


def client(connection: socket.socket, stream: BufferedReader) -> Ask:
    """Commands in Redis' own protocol (RESP 2); `stream` is what the connection answers."""

    def reply() -> Reply:
        line = stream.readline()
        kind, rest = line[:1], line[1:].strip().decode(errors="replace")
        if kind == b"$":
            return stream.read(int(rest) + 2)[:-2].decode(errors="replace") if rest != "-1" else None
        if kind == b"*":
            return [reply() for _ in range(int(rest))]
        if kind not in (b"+", b":"):
            raise ValueError(rest or "the connection ended")
        return rest

    def ask(*words: str) -> Reply:
        encoded = [word.encode() for word in words]
        connection.sendall(b"*%d\r\n" % len(encoded))
        connection.sendall(b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded))
        return reply()

    return ask


def main() -> int:
    """Look once."""
    environ = os.environ
    address = environ["PREFECT_REDIS_MESSAGING_HOST"], int(environ["PREFECT_REDIS_MESSAGING_PORT"])
    try:
        with (
            socket.create_connection(address, SOCKET_SECONDS) as connection,
            connection.makefile("rb") as stream,
        ):
            ask = client(connection, stream)
            if password := environ.get("PREFECT_REDIS_MESSAGING_PASSWORD"):
                ask("AUTH", password)
            ask("SELECT", environ["PREFECT_REDIS_MESSAGING_DB"])
            wrong = problem(ask, socket.gethostname(), time.time())
    except (OSError, ValueError) as error:
        print(f"Redis: {error}", file=sys.stderr)
        _forget()
        return 1
    if wrong:
        print(wrong, file=sys.stderr)
    judge(wrong, time.time())
    # Docker keeps what its health check says; `status` reads it there.
    launched = environ.get("PLATFORM_LAUNCHED", "")
    if not wrong and os.path.isfile(launched):
        with open(launched) as said:
            print(said.read())
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
