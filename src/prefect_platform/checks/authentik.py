"""Whether Authentik knows what the settings declare."""

from __future__ import annotations

import time

from prefect_platform.checks.check import Check
from prefect_platform.environment.opened import Platform
from prefect_platform.environment.provisioners.sign_on import api, wanted
from prefect_platform.errors import PlatformError
from prefect_platform.provisioning.authentik import apps, plan


def check(platform: Platform) -> Check:
    """Whether Authentik has Prefect's application as configured; for an environment whose people sign in."""
    began = time.monotonic()
    try:
        with api(platform) as client:
            want = wanted(platform)
            changes = plan.plan(want, apps.observe(client, want))
    except PlatformError as error:
        hint = error.hint or "./invoke authentik.status"
        return Check("authentik", False, error.reason, time.monotonic() - began, hint)
    seconds = time.monotonic() - began
    if changes:
        told = "; ".join(f"would be {change}" for change in changes)
        return Check(
            "authentik", False, f"differs from the configuration: {told}", seconds, "./invoke prefect.setup"
        )
    who = ", ".join(want.groups) or "everybody"
    return Check(
        "authentik", True, f"application {want.slug} exists for {who}; the outpost serves it", seconds
    )
