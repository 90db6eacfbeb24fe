"""The order of stopping. Values only."""

from __future__ import annotations

from prefect_platform.planning.stop_order import stop_order


def test_what_depends_on_others_stops_first() -> None:
    after = {
        "agent": (),
        "server": ["agent"],
        "reworked": (),
        "worker": {"server": {}},
        "services": ["agent"],
    }
    assert stop_order(after) == [["worker"], ["server", "services"], ["agent", "reworked"]]


def test_unknown_names_and_circles_do_no_harm() -> None:
    assert stop_order({"a": ["gone"]}) == [["a"]]
    assert sorted(each for group in stop_order({"a": ["b"], "b": ["a"]}) for each in group) == ["a", "b"]
    assert stop_order({}) == []
