"""The estimate against prices that were read elsewhere."""

from __future__ import annotations

import pytest

from prefect_platform.fly_cost import estimate


@pytest.mark.parametrize(
    ("memory", "cpus", "usd"), [("256mb", 1, 2.02), ("512mb", 1, 3.32), ("1gb", 1, 5.92), ("512mb", 2, 4.04)]
)
def test_a_machine_that_never_sleeps(memory: str, cpus: int, usd: float) -> None:
    items = estimate({"memory": memory, "cpus": cpus, "volume_gb": 1}, 24)
    assert items[0].usd == pytest.approx(usd, abs=0.01)
    assert items[1].usd == 0


def test_the_figures_of_the_page() -> None:
    fly = {"memory": "1gb", "cpus": 1, "volume_gb": 1}
    assert sum(each.usd for each in estimate(fly, 24)) == pytest.approx(6.07, abs=0.01)
    assert sum(each.usd for each in estimate(fly, 8)) == pytest.approx(2.22, abs=0.01)
