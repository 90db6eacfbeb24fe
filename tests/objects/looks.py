"""What tests of the checks share."""

from __future__ import annotations

from pathlib import Path

from prefect_platform.checks.check import Check
from prefect_platform.config.objects import Canary, Desired, Pool
from prefect_platform.provisioning.prefect.api import PrefectApi
from prefect_platform.provisioning.prefect.objects import apply_changes, observe, plan_objects


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def deploy(api: PrefectApi, name: str, pool: str, folder: Path, entrypoint: str) -> tuple[str, str]:
    """A deployment of this name, its flow's name being the same."""
    wanted = Desired(pools=(Pool(pool),), canary=Canary(pool, str(folder), entrypoint, name, name))
    apply_changes(api, plan_objects(wanted, observe(api, wanted)))
    return name, name
