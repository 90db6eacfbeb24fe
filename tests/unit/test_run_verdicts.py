"""Who is dead: only a run that had sent heartbeats, and could have been heard, and was not for three intervals of its own."""

from __future__ import annotations

import sys

import pytest

from .conftest import ROOT

sys.path.append(str(ROOT / "stacks" / "prefect"))
from run_verdicts import Beat, Held, Watch, is_alive_again, is_suspect, leaked, why_dead

NOW = 10_000.0
LONG = Watch(0, NOW, NOW)
"""Everything could be heard for hours."""


def beats(age: float, interval: float = 30, number: int = 4, skew: float = 0) -> tuple[Beat, ...]:
    """The last heartbeats, the newest `age` seconds old by the server's clock."""
    times = [NOW - age - interval * back for back in range(number)]
    return tuple(Beat(moment + skew, moment) for moment in times)


@pytest.mark.parametrize(
    ("since", "sent", "watch", "dead"),
    [
        pytest.param(0, (), LONG, False, id="sends none by its settings"),
        pytest.param(0, beats(20), LONG, False, id="healthy"),
        pytest.param(0, beats(185), LONG, False, id="network cut for two minutes and a slow way back"),
        pytest.param(0, beats(250), LONG, True, id="killed"),
        pytest.param(0, beats(250, skew=-7200), LONG, True, id="killed, with a clock of its own"),
        pytest.param(0, beats(250, skew=7200), LONG, True, id="killed, with a clock ahead"),
        pytest.param(0, beats(300, 180), LONG, False, id="a client with Prefect's own 180 s"),
        pytest.param(0, beats(550, 180), LONG, True, id="such a client killed"),
        pytest.param(0, beats(300, number=1), LONG, False, id="one heartbeat says nothing of the next"),
        pytest.param(0, beats(550, number=1), LONG, True, id="killed after one heartbeat"),
        pytest.param(NOW - 100, beats(400), LONG, False, id="Running for less time than that"),
        pytest.param(0, beats(250), Watch(NOW - 60, NOW, NOW), False, id="the server was away or frozen"),
        pytest.param(0, beats(400), Watch(0, NOW, 0), False, id="no question was heard in all that time"),
        pytest.param(0, beats(400), Watch(NOW - 130, NOW, NOW), True, id="the server is long back"),
    ],
)
def test_only_what_could_be_heard_and_was_not_is_dead(
    since: float, sent: tuple[Beat, ...], watch: Watch, dead: bool
) -> None:
    why = why_dead(since, sent, NOW, watch)
    assert bool(why) is dead
    assert not dead or is_suspect(since, sent, NOW), "what is ended has been watched"
    assert not dead or "no heartbeat of its process for" in why


def test_a_run_is_watched_before_it_is_dead() -> None:
    assert not is_suspect(0, beats(60), NOW)
    assert is_suspect(0, beats(100), NOW)
    assert not is_suspect(NOW - 10, beats(100), NOW), "it runs anew"
    assert not is_suspect(0, (), NOW)


def test_a_watch_begins_anew_after_a_gap_and_when_a_question_got_lost() -> None:
    watch = Watch(100, 200, 180)
    assert watch.again(220, 20) == Watch(100, 220, 180)
    assert watch.again(220, 20, heard=200) == Watch(100, 220, 200)
    assert watch.again(220, 20, lost=True) == Watch(220, 220, 220)
    assert watch.again(340, 20, heard=200) == Watch(340, 340, 340), "frozen for 140 s"
    assert watch.again(150, 20, heard=140) == Watch(150, 150, 150), "the clock was set back"


def test_a_heartbeat_that_arrives_after_the_end_takes_it_back() -> None:
    assert is_alive_again(NOW - 10, beats(5))
    assert not is_alive_again(NOW - 10, beats(20))
    assert not is_alive_again(NOW - 10, ())


@pytest.mark.parametrize(
    ("looks", "free"),
    [
        ([], {}),
        ([{"d": Held(2, 1)}, {"d": Held(2, 1)}], {"d": 1}),
        ([{"d": Held(2, 1)}, {"d": Held(2, 2)}], {}),
        ([{}, {"d": Held(2, 1)}], {}),
        ([{"d": Held(3, 1)}, {"d": Held(2, 1), "e": Held(1, 0)}], {"d": 1}),
        ([{"d": Held(1, 2)}], {}),
    ],
)
def test_a_slot_is_free_again_only_if_no_look_saw_its_lease(
    looks: list[dict[str, Held]], free: dict[str, int]
) -> None:
    assert leaked(looks) == free
