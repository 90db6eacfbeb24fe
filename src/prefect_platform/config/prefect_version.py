"""The Prefect that this version of the platform was tested with, and what settings say of another one. Pure, but for the lock it reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_OFFICIAL = re.compile(r"(?:^|/)prefecthq/prefect:(\d+\.\d+\.\d+[^-@]*)")
"""Official images name the version first in their tag: 3.8.8-python3.12. Of a user's own image nothing is known before it runs."""


def pinned(root: Path) -> str:
    """The version that the runtime's lock pins: the one that all tests ran with."""
    lock = (root / "requirements" / "runtime.txt").read_text()
    return next(line.split("==")[1].split()[0] for line in lock.splitlines() if line.startswith("prefect=="))


def of_image(image: str) -> str:
    """Empty where the image's name does not say it."""
    found = _OFFICIAL.search(image)
    return found[1] if found else ""


def warnings(prefect: Mapping[str, Any], tested: str) -> tuple[str, ...]:
    """What images of the section `prefect` lose for their version, before they do."""
    server = of_image(prefect["image"])
    found = []
    if server not in ("", tested):
        found.append(
            f"platform.prefect.image: Prefect {server} is not the tested {tested}: "
            "its servers run without graceful stop, write queue and password masking, its workers without drain"
        )
    for number, worker in enumerate(prefect["workers"]):
        version = of_image(worker["image"] or "")
        if version not in ("", tested):
            found.append(
                f"platform.prefect.workers[{number}].image: Prefect {version} is not the tested {tested}: "
                f"worker {worker['name']} runs without drain, so a stop kills its flow runs"
            )
    return tuple(found)
