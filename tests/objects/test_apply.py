"""Plan and apply against a real Prefect server: what is planned is what happens, and only once."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from prefect_platform.config.objects import Canary, Desired, Limit, Pool, Queue
from prefect_platform.errors import ConfigError
from prefect_platform.provisioning.prefect.api import PrefectApi
from prefect_platform.provisioning.prefect.objects import (
    FORMER_AUTOMATION,
    apply_changes,
    notices,
    observe,
    plan_objects,
)
from prefect_platform.provisioning.prefect.pools import pools_table


def settle(api: PrefectApi, wanted: Desired) -> list[str]:
    """Apply, and prove that nothing is left to do; what was done."""
    changes = plan_objects(wanted, observe(api, wanted))
    apply_changes(api, changes)
    assert plan_objects(wanted, observe(api, wanted)) == ()
    return [str(change) for change in changes]


def everything(folder: Path) -> Desired:
    queues = (Queue("slow", 2), Queue("fast", 1, 2), Queue("default", concurrency_limit=3))
    return Desired(
        pools=(
            Pool("all", concurrency_limit=5, queues=queues, description="ours"),
            Pool("all b", paused=True),
        ),
        limits=(Limit("all-ocr", 5), Limit("all-train", 2, slot_decay_per_second=0.5)),
        canary=Canary("all", str(folder), "canary.py:canary", "all-canary"),
    )


def test_everything_is_made_once(api: PrefectApi, tmp_path: Path) -> None:
    made = settle(api, everything(tmp_path))
    assert [text.split(":")[0] for text in made] == [
        "create work pool all",
        "create queue all/fast",
        "create queue all/slow",
        "update queue all/default",
        "create work pool all b",
        "create global limit all-ocr",
        "create global limit all-train",
        "create deployment all-canary/canary",
    ]
    queues = {each["name"]: (each["priority"], each["concurrency_limit"]) for each in api.queues("all")}
    # The canary's queue comes with its deployment; what settings define has it first (test_plan.py).
    assert queues == {"fast": (1, 2), "slow": (2, None), "default": (3, 3), "platform-canary": (4, None)}


def test_what_differs_is_updated(api: PrefectApi, tmp_path: Path) -> None:
    before = Desired(
        pools=(Pool("upd", concurrency_limit=4, queues=(Queue("q", 1, 1),)),),
        limits=(Limit("upd", 3),),
        canary=Canary("upd", str(tmp_path), "a.py:a", "upd"),
    )
    settle(api, before)
    assert before.canary is not None
    after = Desired(
        pools=(Pool("upd", queues=(Queue("q", 1),)),),
        limits=(Limit("upd", 4, active=False),),
        canary=replace(before.canary, path="/elsewhere"),
    )
    done = settle(api, after)
    assert done[:3] == [
        "update work pool upd: concurrency_limit 4 → none",
        "update queue upd/q: concurrency_limit 1 → none",
        "update global limit upd: limit 3 → 4, active True → False",
    ]
    assert done[3].startswith(f"update deployment upd/canary: path {tmp_path} → /elsewhere")
    assert len(done) == 4


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1), (1, 3, 5), (5, 4, 2), (2, 4, 6)])
def test_queue_order_settles_from_any_other(api: PrefectApi, order: tuple[int, ...]) -> None:
    name = "order-" + "-".join(map(str, order))
    for start in [*itertools.permutations((1, 2, 3, 4), 3)][::5]:
        settle(api, Desired(pools=(Pool(name, queues=tuple(map(Queue, "abc", start))),)))
        settle(api, Desired(pools=(Pool(name, queues=tuple(map(Queue, "abc", order))),)))
        actual = {each["name"]: each["priority"] for each in api.queues(name)}
        assert [actual[queue] for queue in "abc"] == list(order)


def test_a_queue_comes_in_between(api: PrefectApi) -> None:
    settle(api, Desired(pools=(Pool("between", queues=(Queue("a", 1), Queue("c", 3))),)))
    settle(api, Desired(pools=(Pool("between", queues=(Queue("b", 1), Queue("a", 2), Queue("c", 3))),)))


def test_a_type_is_not_changed(api: PrefectApi) -> None:
    settle(api, Desired(pools=(Pool("typed", concurrency_limit=1),)))
    wanted = Desired(pools=(Pool("typed", "docker", 2),))
    with pytest.raises(ConfigError, match="cannot be changed"):
        plan_objects(wanted, observe(api, wanted))
    pool = api.work_pool("typed")
    assert pool is not None
    assert (pool["type"], pool["concurrency_limit"]) == ("process", 1)


def test_what_is_foreign_stays(api: PrefectApi) -> None:
    theirs = Desired(
        pools=(Pool("theirs", concurrency_limit=7, queues=(Queue("t", 1, 1),)),), limits=(Limit("t", 9),)
    )
    settle(api, theirs)
    api.create_queue("theirs", {"name": "by hand", "concurrency_limit": 2})
    automation(api, "theirs")
    ours = Desired(pools=(Pool("ours"),))
    settle(api, ours)
    settle(api, Desired())
    found = observe(api, theirs)
    assert plan_objects(theirs, found) == ()
    assert len(api.automations("theirs")) == 1
    assert (
        "queue theirs/by hand: not in the configuration; left alone (harmless): declare it, or delete it in the UI"
        in notices(theirs, found)
    )
    left = notices(ours, observe(api, ours))
    assert {
        "work pool theirs: not in the configuration; left alone (harmless): declare it, or delete it in the UI",
        "global limit t: not in the configuration; left alone (harmless): declare it, or delete it in the UI",
    } <= set(left)


def automation(api: PrefectApi, name: str) -> None:
    """One that crashes the runs that were silent for 90 s, as version 0.5 and before made it."""
    heartbeat = "prefect.flow-run.heartbeat"
    trigger = {
        "type": "event",
        "posture": "Proactive",
        "threshold": 1,
        "within": 90.0,
        "match": {"prefect.resource.id": ["prefect.flow-run.*"]},
        "for_each": ["prefect.resource.id"],
        "after": [heartbeat],
        "expect": [heartbeat, "prefect.flow-run.Completed"],
    }
    action = {"type": "change-flow-run-state", "state": "CRASHED"}
    body = {"name": name, "enabled": True, "trigger": trigger, "actions": [action]}
    httpx.post(f"{api.base_url}/automations/", json=body, timeout=10).raise_for_status()


def test_the_automation_that_crashed_living_runs_is_deleted_by_setup(api: PrefectApi) -> None:
    for _ in range(2):
        automation(api, FORMER_AUTOMATION)
    assert len(settle(api, Desired())) == 2
    assert api.automations(FORMER_AUTOMATION) == []


def test_the_table_of_pools(api: PrefectApi) -> None:
    settle(api, Desired(pools=(Pool("table", concurrency_limit=4, queues=(Queue("q", 2, 1),)),)))
    wanted = Desired(
        pools=(Pool("absent", concurrency_limit=1), Pool("table", queues=(Queue("q", 2, 3), Queue("r"))))
    )
    rows = {(row.pool, row.queue): row for row in pools_table(api, wanted)}
    assert [*rows][:5] == [
        ("absent", None),
        ("table", None),
        ("table", "r"),
        ("table", "default"),
        ("table", "q"),
    ]
    assert rows["absent", None].status == rows["table", "r"].status == "MISSING"
    pool, queue = rows["table", None], rows["table", "q"]
    assert (pool.limit_configured, pool.limit_actual, pool.status, pool.workers_online) == (
        None,
        4,
        "NOT_READY",
        0,
    )
    assert (queue.limit_configured, queue.limit_actual, queue.priority, queue.active_slots) == (3, 1, 2, 0)
    assert queue.declared
    assert not rows["table", "default"].declared
    assert pools_table(api, Desired())
