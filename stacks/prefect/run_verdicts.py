"""What must be true of a run, from what is known of it: data in, verdicts out. Used by reconcile.py.

A run is dead only if its process had sent heartbeats and has stopped: one that sends none, by its settings or
its version, is never judged. Its own heartbeats tell how often it sends them. And silence counts only while
heartbeats could have arrived: `Watch` is the time over which this process has looked without a gap and has
seen its own question come back through the API and the events' way into the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_low

DEFAULT_INTERVAL = 180.0
"""Seconds between heartbeats of Prefect 3.8.8 without a setting: of a run that has sent only one."""
MISSED = 3
OUTAGE_SECONDS = 210.0
"""For so long may heartbeats not come through: a network may be cut for two minutes, and a client takes one to come back."""
ENDED_BY_US = "Ended by the platform: "
REVIVED = "Its heartbeats came back: it had not ended."


@dataclass(frozen=True)
class Beat:
    """One heartbeat: when the client sent it, by its clock, and when the server received it, in unix time."""

    sent: float
    received: float


@dataclass(frozen=True)
class Watch:
    """`since` when this process has looked without a gap, when it `looked` last, and until when it was `proven` that what is sent
    arrives: the time at which our last question was asked that came back. Unix time.
    """

    since: float
    looked: float
    proven: float

    @classmethod
    def begun(cls, now: float) -> Watch:
        return cls(now, now, now)

    def again(self, now: float, period: float, heard: float | None = None, lost: bool = False) -> Watch:
        """The watch after one more look, at which a question was `heard` that had been asked then, or was `lost`.

        It begins anew after a gap: a machine that was frozen, a clock that was set, a question that got lost.
        """
        if lost or now - self.looked > patience(period) or now < self.looked:
            return Watch.begun(now)
        return Watch(self.since, now, max(self.proven, heard or 0))


def patience(period: float) -> float:
    """Seconds after which a look is overdue, and a question lost: Prefect writes events in batches, every five seconds."""
    return 3 * period + 10


def interval(beats: Sequence[Beat]) -> float:
    """Seconds between this run's heartbeats, of which these are the last, newest first."""
    gaps = [later.sent - earlier.sent for later, earlier in pairwise(beats)]
    return median_low(gaps) if gaps else DEFAULT_INTERVAL


def allowed_silence(beats: Sequence[Beat], outage: float = OUTAGE_SECONDS) -> float:
    """Seconds without a heartbeat after which this run's process is dead."""
    return max(MISSED * interval(beats), interval(beats) + outage)


def is_suspect(since: float, beats: Sequence[Beat], now: float, outage: float = OUTAGE_SECONDS) -> bool:
    """Whether it has been silent long enough to be watched: running `since`, this attempt's `beats` newest first."""
    return bool(beats) and now - max(since, beats[0].received) > allowed_silence(beats, outage) / 3


def why_dead(
    since: float, beats: Sequence[Beat], now: float, watch: Watch, outage: float = OUTAGE_SECONDS
) -> str:
    """Why the run is dead; empty while it may be alive."""
    if not beats:
        return ""
    allowed, silent = allowed_silence(beats, outage), now - max(since, beats[0].received)
    if silent <= allowed or watch.proven - watch.since < allowed / 2:
        return ""
    return (
        f"{ENDED_BY_US}no heartbeat of its process for {silent:.0f} s, although the server could have received one; "
        f"it sent them every {interval(beats):.0f} s."
    )


def is_alive_again(ended: float, beats: Sequence[Beat]) -> bool:
    """Whether a heartbeat arrived after we ended the run: by then its process could not have sent one if it were dead."""
    return bool(beats) and beats[0].received > ended


@dataclass(frozen=True)
class Held:
    """A limit of Prefect's own making: slots that its counter says are taken, and those of leases that exist."""

    taken: int
    leased: int

    @property
    def unleased(self) -> int:
        return max(0, self.taken - self.leased)


def leaked(looks: Sequence[Mapping[str, Held]]) -> dict[str, int]:
    """Slots by limit that in none of the last `looks` belonged to a lease: nobody will give them back.

    Taking a slot writes the counter and the lease one after the other, so that one look proves nothing.
    """
    if not looks:
        return {}
    least = {name: min(each[name].unleased for each in looks if name in each) for name in looks[-1]}
    return {name: slots for name, slots in least.items() if slots and all(name in each for each in looks)}
