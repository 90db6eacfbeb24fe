"""Prefect's objects, once it answers."""

from __future__ import annotations

import time

from prefect_platform.checks.health import failing
from prefect_platform.environment.access import api, forget_token
from prefect_platform.environment.opened import Platform, desired
from prefect_platform.errors import CheckFailed, ConfigError, PlatformError
from prefect_platform.provisioning.prefect import objects
from prefect_platform.provisioning.prefect.api import ApiError, PrefectApi

READY_SECONDS = 120


def ensure_objects(platform: Platform, seconds: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
    wanted = desired(platform)
    with api(platform) as client:
        known = _wait_ready(platform, client, seconds)
    if not known:
        platform.say("the gateway does not know the platform's own token: making another")
        forget_token(platform)
    with api(platform) as client:
        observed = objects.observe(client, wanted)
        changes = objects.plan_objects(wanted, observed)
        for change in changes:
            platform.say(str(change))
        objects.apply_changes(client, changes)
    return tuple(str(change) for change in changes), objects.notices(wanted, observed)


def object_changes(platform: Platform) -> tuple[str, ...] | None:
    """What setup would change inside Prefect; None when Prefect does not answer."""
    try:
        with api(platform) as client:
            wanted = desired(platform)
            return tuple(
                str(change) for change in objects.plan_objects(wanted, objects.observe(client, wanted))
            )
    except ConfigError:
        raise
    except PlatformError:
        return None


def _wait_ready(platform: Platform, client: PrefectApi, seconds: float) -> bool:
    """Until Prefect answers; False when the gateway does, and refuses our token. Raises CheckFailed."""
    began, told = time.monotonic(), False
    while True:
        try:
            client.ready()
            return True
        except PlatformError as error:
            if isinstance(error, ApiError) and error.status == 401:
                return False
            gone = [
                line
                for line in failing(platform)
                if line.name == "disk" or line.detail.startswith(("FATAL", "FAILING"))
            ]
            if gone or time.monotonic() - began > seconds:
                cause = "; ".join(f"{line.name}: {line.detail}" for line in gone) or error.reason
                hint = gone[-1].hint if gone else "./invoke prefect.logs --service server"
                raise CheckFailed(f"Prefect does not become ready: {cause}", hint) from None
        if not told and time.monotonic() - began > 2:
            told = True
            platform.say("waiting for Prefect to become ready")
        time.sleep(0.2)
