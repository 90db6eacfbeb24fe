"""Work pools, limits and the canary's deployment inside Prefect."""

from __future__ import annotations

import time
from dataclasses import replace

from prefect_platform.config.objects import Desired
from prefect_platform.environment.access import api, forget_token, kept_token
from prefect_platform.environment.opened import Platform, desired
from prefect_platform.errors import CheckFailed, ConfigError, PlatformError
from prefect_platform.planning.diff import Step
from prefect_platform.provisioning.prefect import objects
from prefect_platform.provisioning.prefect.api import ApiError, PrefectApi

from .check_token import STEP as TOKEN_STEP
from .check_token import issue
from .protocol import Done, Ready

_UNKNOWN = "unless it exists"


class PrefectObjects:
    def check(self, platform: Platform) -> None:
        """`config.rules` has checked what the schema cannot say."""

    def plan(self, platform: Platform, running: bool) -> tuple[Step, ...]:
        """Against a new server's nothing when Prefect does not answer; its database may have them already."""
        if not platform.served:
            return ()
        wanted = desired(platform)
        if running and kept_token(platform):
            try:
                with api(platform) as client:
                    return _steps(objects.plan_objects(wanted, objects.observe(client, wanted)))
            except ConfigError:
                raise
            except ApiError as error:
                renewed = (TOKEN_STEP,) if error.status == 401 else ()
                return (*renewed, *_unknown(wanted))
            except PlatformError:
                return _unknown(wanted)
        return _unknown(wanted)

    def apply(self, platform: Platform, ready: Ready) -> Done:
        """Raises CheckFailed when Prefect does not answer in time."""
        if not platform.served:
            return Done()
        wanted = desired(platform)
        renewed: tuple[Step, ...] = ()
        with api(platform) as client:
            known = _wait_ready(platform, client, ready)
        if not known:
            platform.say("the gateway rejects the platform's token: issuing a new one")
            forget_token(platform)
            issue(platform)
            renewed = (TOKEN_STEP,)
            _require_ours(platform, ready)
        with api(platform) as client:
            observed = objects.observe(client, wanted)
            changes = objects.plan_objects(wanted, observed)
            for change in changes:
                platform.say(str(change))
            objects.apply_changes(client, changes)
        return Done((*renewed, *_steps(changes)), objects.notices(wanted, observed))


def _require_ours(platform: Platform, ready: Ready) -> None:
    """Raises CheckFailed where even a token that was just issued is refused: the gateway that issued it is not the one that answers."""
    with api(platform) as client:
        if not _wait_ready(platform, client, ready):
            raise CheckFailed(
                f"{platform.url}: rejects a token that this environment's gateway just issued: something else answers there",
                f"check {platform.settings.key('gateway', 'public_url')}; it must lead to the gateway of environment {platform.settings.env}",
            )


def _steps(changes: tuple[objects.Change, ...]) -> tuple[Step, ...]:
    return tuple(Step(each.action, each.subject, each.cause) for each in changes)


def _unknown(wanted: Desired) -> tuple[Step, ...]:
    steps = _steps(objects.plan_objects(wanted, objects.Observed()))
    return tuple(replace(step, cause=f"{step.cause}; {_UNKNOWN}") for step in steps)


def _wait_ready(platform: Platform, client: PrefectApi, ready: Ready) -> bool:
    """Until Prefect answers; False when the gateway does, and refuses our token. Raises CheckFailed."""
    began, told = time.monotonic(), False
    while True:
        try:
            client.ready()
            return True
        except PlatformError as error:
            if isinstance(error, ApiError) and error.status == 401:
                return False
            hopeless = ready.hopeless()
            if hopeless or time.monotonic() - began > ready.seconds:
                cause, hint = hopeless or (
                    error.reason,
                    f"./invoke prefect.logs --service server --env {platform.settings.env}",
                )
                raise CheckFailed(f"Prefect did not become ready: {cause}", hint) from None
        if not told and time.monotonic() - began > 2:
            told = True
            platform.say("waiting for Prefect to become ready")
        time.sleep(0.2)
