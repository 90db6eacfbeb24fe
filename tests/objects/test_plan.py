"""Declared against found, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from prefect_platform.config.objects import Canary, Desired, Limit, Pool, Queue, desired_objects
from prefect_platform.errors import ConfigError
from prefect_platform.provisioning.prefect.objects import Change, Observed, notices, plan_objects

POOL = {"type": "process", "concurrency_limit": 4, "description": None, "is_paused": False}


def observed(queues: dict[str, tuple[int, int | None]] | None = None, **pool: Any) -> Observed:
    found = {"default": (1, None)} if queues is None else queues
    return Observed(
        pools={"p": {**POOL, "name": "p", **pool}},
        queues={"p": {name: {"priority": at, "concurrency_limit": top} for name, (at, top) in found.items()}},
    )


def plan(pool: Pool, found: Observed) -> list[str]:
    return [str(change) for change in plan_objects(Desired(pools=(pool,)), found)]


@pytest.mark.parametrize(
    ("pool", "found", "expected"),
    [
        (Pool("p", concurrency_limit=4), observed(), []),
        (Pool("p", concurrency_limit=5), observed(), ["update work pool p: concurrency_limit 4 → 5"]),
        (Pool("p"), observed(), ["update work pool p: concurrency_limit 4 → none"]),
        (Pool("p", concurrency_limit=4, description=""), observed(), []),
        (
            Pool("p", concurrency_limit=4, description="x", paused=True),
            observed(),
            ["update work pool p: description  → x, is_paused False → True"],
        ),
        (Pool("p", concurrency_limit=4), observed(is_paused=True), []),
        (Pool("p"), Observed(), ["create work pool p: type process, concurrency_limit none"]),
        (
            Pool("p", queues=(Queue("low", 2), Queue("high", 1, 3), Queue("default", concurrency_limit=1))),
            Observed(),
            [
                "create work pool p: type process, concurrency_limit none",
                "create queue p/high: concurrency_limit 3, priority 1",
                "create queue p/low: concurrency_limit none, priority 2",
                "update queue p/default: concurrency_limit none → 1",
            ],
        ),
        (
            Pool("p", concurrency_limit=4, queues=(Queue("a", 1), Queue("b", 2))),
            observed({"a": (2, None), "b": (1, None), "default": (3, None)}),
            ["update queue order p: a 2 → 1, b 1 → 2"],
        ),
        (
            Pool("p", concurrency_limit=4, queues=(Queue("new", 1), Queue("b", 2))),
            observed({"b": (2, None), "default": (1, None)}),
            [
                "create queue p/new: concurrency_limit none, priority 1",
                "update queue order p: new is inserted between",
            ],
        ),
        (
            Pool("p", concurrency_limit=4, queues=(Queue("a", 1, 2), Queue("free"))),
            observed({"a": (1, 5), "free": (7, None), "default": (2, None)}),
            ["update queue p/a: concurrency_limit 5 → 2"],
        ),
    ],
)
def test_pools(pool: Pool, found: Observed, expected: list[str]) -> None:
    assert plan(pool, found) == expected


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (None, ["create global limit db: limit 5, active True, slot_decay_per_second 0"]),
        ({"limit": 5, "active": True, "slot_decay_per_second": 0.0}, []),
        ({"limit": 4, "active": True, "slot_decay_per_second": 0.0}, ["update global limit db: limit 4 → 5"]),
        (
            {"limit": 5, "active": False, "slot_decay_per_second": 0.5},
            ["update global limit db: active False → True, slot_decay_per_second 0.5 → 0"],
        ),
    ],
)
def test_limits(actual: dict[str, Any] | None, expected: list[str]) -> None:
    changes = plan_objects(
        Desired(limits=(Limit("db", 5),)), Observed(limits={"db": actual} if actual else {})
    )
    assert [str(change) for change in changes] == expected


def test_the_automation_of_earlier_versions_goes_however_often_it_is_there() -> None:
    found = Observed(automations=({"id": "one"}, {"id": "two"}))
    changes = plan_objects(Desired(), found)
    assert [change.target for change in changes] == ["one", "two"]
    assert {str(change) for change in changes} == {
        "delete automation platform: crash zombie flow runs: runs whose process died are ended by the background services"
    }


def test_canary() -> None:
    canary = Canary("p", "/srv", "canary.py:canary")
    wanted = Desired(canary=canary)
    (change,) = plan_objects(wanted, Observed())
    assert str(change) == "create deployment platform-canary/canary: in work pool p, canary.py:canary"
    assert plan_objects(wanted, Observed(deployment={"id": "x", **canary.body()})) == ()
    (change,) = plan_objects(wanted, Observed(deployment={**canary.body(), "paused": True}))
    assert change == Change(
        "update", "deployment", "canary", "paused True → False", canary.body(), canary.flow
    )


def test_type_cannot_change() -> None:
    with pytest.raises(ConfigError, match="type process but exists with type docker") as caught:
        plan(Pool("p"), observed(type="docker"))
    assert caught.value.hint


def test_what_is_not_declared_is_named_and_left() -> None:
    found = observed({"default": (1, None), "theirs": (2, None)}, concurrency_limit=None)
    found = Observed({**found.pools, "other": POOL}, found.queues, {"l": {}, "db": {}})
    wanted = Desired(pools=(Pool("p"),), limits=())
    assert plan_objects(wanted, found) == ()
    assert notices(wanted, found) == (
        "work pool other: not in the configuration; left alone (harmless): declare it, or delete it in the UI",
        "queue p/theirs: not in the configuration; left alone (harmless): declare it, or delete it in the UI",
        "global limit db: not in the configuration; left alone (harmless): declare it, or delete it in the UI",
        "global limit l: not in the configuration; left alone (harmless): declare it, or delete it in the UI",
    )


def test_settings_become_values() -> None:
    settings = {
        "work_pools": [
            {
                "name": "example-workers",
                "type": "process",
                "concurrency_limit": 5,
                "queues": [{"name": "q"}],
            }
        ],
        "global_concurrency_limits": [{"name": "ocr", "limit": 5}, {"name": "train", "limit": 2}],
        "port": 4200,
    }
    assert desired_objects(settings) == Desired(
        pools=(Pool("example-workers", concurrency_limit=5, queues=(Queue("q"),)),),
        limits=(Limit("ocr", 5), Limit("train", 2)),
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"work_pools": [{"name": "Prefect-x"}]}, "belong to Prefect"),
        ({"work_pools": [{"name": "a"}, {"name": "a"}]}, "'a' is defined twice"),
        (
            {
                "work_pools": [
                    {"name": "a", "queues": [{"name": "q", "priority": 1}, {"name": "r", "priority": 1}]}
                ]
            },
            "q and r both have priority 1",
        ),
        ({"global_concurrency_limits": [{"name": "tag:x", "limit": 1}]}, "belong to Prefect"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        desired_objects(settings)
    assert message in caught.value.reason


def test_the_canary_has_a_lane_before_all_queues_of_its_pool() -> None:
    queues = [{"name": "urgent", "priority": 1}, {"name": "free"}, {"name": "slow", "priority": 4}]
    settings = {"work_pools": [{"name": "a", "queues": queues}, {"name": "b", "queues": queues}]}
    canary = Canary("a", "/srv", "f.py:f")
    first, second = desired_objects(settings, canary=canary).pools
    assert [(queue.name, queue.priority) for queue in first.queues] == [
        ("platform-canary", 1),
        ("urgent", 2),
        ("free", None),
        ("slow", 5),
    ]
    assert [(queue.name, queue.priority) for queue in second.queues] == [
        ("urgent", 1),
        ("free", None),
        ("slow", 4),
    ]
    assert canary.body()["work_queue_name"] == "platform-canary"
    with pytest.raises(ConfigError, match="the queue platform-canary is the platform's own"):
        desired_objects({"work_pools": [{"name": "a", "queues": [{"name": "platform-canary"}]}]})


def test_the_canary_needs_a_pool() -> None:
    with pytest.raises(ConfigError, match="'nowhere' is not among"):
        desired_objects({}, canary=Canary("nowhere", "/srv", "f.py:f"))
