"""What a Fly machine costs a month, estimated from its settings. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_platform.targets.protocol import Cost, Estimate

AS_OF = "2026-08"
SOURCE = "Fly's pricing page and documentation, read 2025-10 to 2026-08; USD, cheapest regions (sjc: 15 % more); an estimate, not a quote"
CPU, MEMORY = 0.72, 5.20
"""A shared CPU, and a GB of memory, running all month (from 2.02, 3.32 and 5.92 for 256, 512 and 1024 MB on one CPU)."""
ASLEEP, VOLUME, SNAPSHOT = 0.15, 0.15, 0.08
"""A GB and month: of the image while the machine sleeps, of the volume in every state, of snapshots beyond the free ones."""
FREE_SNAPSHOTS_GB = 10
IMAGE_GB = 1.0
_MORE = "outbound traffic: 0.02 per GB in Europe and North America"


def estimate(fly: Mapping[str, Any], hours: float) -> Estimate:
    """`fly` are the settings platform.fly, `hours` (0 to 24) those that the machine is awake a day."""
    memory = float(fly["memory"][:-2]) / (1 if fly["memory"].endswith("gb") else 1024)
    awake = hours / 24
    running = (fly["cpus"] * CPU + memory * MEMORY) * awake
    snapshots = max(0.0, fly["volume_gb"] * 1.0 - FREE_SNAPSHOTS_GB)
    items = [
        Cost("machine, awake", f"{fly['cpus']} shared CPU, {memory:g} GB, {hours:g} h a day", running),
        Cost(
            "machine, asleep",
            f"{IMAGE_GB:g} GB image, {24 - hours:g} h a day",
            IMAGE_GB * ASLEEP * (1 - awake),
        ),
        Cost("volume", f"{fly['volume_gb']} GB", fly["volume_gb"] * VOLUME),
        Cost("snapshots", f"{snapshots:g} GB beyond the free {FREE_SNAPSHOTS_GB}", snapshots * SNAPSHOT),
        Cost("shared IPv4, IPv6, certificate", "", 0.0),
    ]
    rounded = (Cost(each.what, each.amount, round(each.usd, 2)) for each in items)
    return Estimate(AS_OF, SOURCE, _MORE, tuple(rounded))
