"""The gateway's token for the platform's own checks."""

from __future__ import annotations

from prefect_platform.environment import access
from prefect_platform.environment.opened import Platform
from prefect_platform.planning.diff import Step

from .protocol import Done, Ready

STEP = Step("create", "token platform/checks", "for the checks")


class CheckToken:
    def check(self, platform: Platform) -> None:
        """Nothing that the schema does not say."""

    def plan(self, platform: Platform, running: bool) -> tuple[Step, ...]:
        return () if not platform.served or access.kept_token(platform) else (STEP,)

    def apply(self, platform: Platform, ready: Ready) -> Done:
        if not platform.served or access.kept_token(platform):
            return Done()
        access.token(platform)
        return Done((STEP,))
