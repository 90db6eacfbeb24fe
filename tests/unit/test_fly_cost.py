"""The estimate against prices that were read elsewhere."""

from __future__ import annotations

import os

import pytest

from prefect_platform.targets.fly.cost import estimate

from .conftest import ROOT, Load


@pytest.mark.parametrize(
    ("memory", "cpus", "usd"), [("256mb", 1, 2.02), ("512mb", 1, 3.32), ("1gb", 1, 5.92), ("512mb", 2, 4.04)]
)
def test_a_machine_that_never_sleeps(memory: str, cpus: int, usd: float) -> None:
    items = estimate({"memory": memory, "cpus": cpus, "volume_gb": 1}, 24).items
    assert items[0].usd == pytest.approx(usd, abs=0.01)
    assert items[1].usd == 0


def test_the_table_of_the_page_is_what_the_settings_cost(load: Load) -> None:
    """Written by PLATFORM_GOLDEN=write, like the other rendered files."""
    rows = ["| memory | always awake | awake 8 hours a day |", "|---|---|---|"]
    for memory in ("512mb", "1gb", "2gb"):
        fly = load({"target": "fly", "fly": {"app": "my-app", "memory": memory}}, root=ROOT).values["fly"]
        sums = (estimate(fly, hours).total for hours in (24, 8))
        rows.append(f"| {memory} | " + " | ".join(f"{usd:.2f}" for usd in sums) + " |")
    page = ROOT / "docs" / "fly.md"
    head, mark, rest = page.read_text().partition("1 GB volume:\n\n")
    assert mark
    after = rest[rest.index("\n\n") :]
    if os.environ.get("PLATFORM_GOLDEN") == "write":
        rest = "\n".join(rows) + after
        page.write_text(head + mark + rest)
    assert rest.startswith("\n".join(rows) + "\n\n")
