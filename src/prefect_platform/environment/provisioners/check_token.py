"""The gateway's token for the platform's own checks."""

from __future__ import annotations

from prefect_platform.environment import access
from prefect_platform.environment.opened import Platform
from prefect_platform.errors import ApplyError, PlatformError
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
        issue(platform)
        return Done((STEP,))


def issue(platform: Platform) -> None:
    """Create the token. Raises ApplyError for what the gateway says against it: the target's steps are done, this one failed."""
    try:
        access.token(platform)
    except PlatformError as error:
        if error.exit_code != PlatformError.exit_code:
            raise
        again = f"./invoke {platform.main}.setup"
        raise ApplyError(
            error.reason, error.hint or f"./invoke gateway.logs shows why; then {again}"
        ) from None
