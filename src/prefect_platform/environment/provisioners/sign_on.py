"""The Authentik of an environment: our own stack's, reached through the host, or one that runs elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterable

from prefect_platform.config import sso, tls
from prefect_platform.environment.opened import Platform
from prefect_platform.errors import ConfigError, PlatformError, PreflightError
from prefect_platform.planning.diff import Step
from prefect_platform.provisioning.authentik import application, apps, bootstrap, plan
from prefect_platform.provisioning.authentik.client import Api
from prefect_platform.secretstore.store import Secret
from prefect_platform.targets.protocol import Exposes, require

from .protocol import Done, Ready

STACK = "authentik"
TOKEN = "PLATFORM_TOKEN"  # noqa: S105 - a name
_BOOTSTRAP = "AUTHENTIK_BOOTSTRAP_TOKEN"
_READY_SECONDS = 240


def api(platform: Platform, token: Secret | None = None) -> Api:
    """With AUTHENTIK_TOKEN if it is given, else with our own. Raises PreflightError without one."""
    given = os.environ.get("AUTHENTIK_TOKEN", "")
    held = token or (Secret(given) if given else platform.target.store.read(STACK).get(TOKEN))
    if held is None:
        raise PreflightError(
            "no token for Authentik",
            f"./invoke authentik.setup --env {platform.settings.env}, or give one: AUTHENTIK_TOKEN=… ./invoke …",
        )
    return Api(_url(platform), held, tls.trust(platform.settings))


def _url(platform: Platform) -> str:
    if sso.external(platform.settings):
        return sso.public_url(platform.settings)
    return require(platform.target, Exposes).reach(STACK, "server", 9000)


def wanted(platform: Platform) -> application.Wanted:
    """Prefect's application."""
    settings = platform.settings
    groups = settings.values["prefect"]["allowed_groups"]
    everyone = groups == [sso.EVERYONE]
    server = platform.target.where("prefect").address("prefect", "server")
    return application.wanted(
        f"Prefect{settings.env_suffix}",
        f"prefect{settings.env_suffix}",
        platform.url,
        server,
        settings.values["prefect"]["port"],
        [] if everyone else groups,
        sso.public_url(settings),
        everyone=everyone,
        own=not sso.external(settings),
    )


class Bootstrap:
    """After Authentik's containers run: create our account in it and delete the bootstrap token."""

    def check(self, platform: Platform) -> None:
        """Raises ConfigError when nothing says where people sign in."""
        sso.public_url(platform.settings)

    def plan(self, platform: Platform, running: bool) -> tuple[Step, ...]:
        if sso.external(platform.settings):
            return (_KEEP,) if _token_to_keep(platform) else ()
        group = platform.settings.values["authentik"]["admin_group"]
        if running and _is_ours(platform):
            return ()
        return _named(bootstrap.of_new(group))

    def apply(self, platform: Platform, ready: Ready) -> Done:
        external = sso.external(platform.settings)
        steps = _keep_given(platform) if external else _bootstrap(platform)
        for step in steps:
            platform.say(f"{step.action} {step.subject}")
        return Done(steps)


class PrefectApplication:
    """Prefect's application in Authentik, where people sign in to open Prefect."""

    def check(self, platform: Platform) -> None:
        """`config.sso` has checked it."""

    def plan(self, platform: Platform, running: bool) -> tuple[Step, ...]:
        if not sso.guards_prefect(platform.settings) or not platform.served:
            return ()
        want = wanted(platform)
        try:
            with api(platform) as client:
                return _steps(plan.plan(want, apps.observe(client, want)))
        except ConfigError:
            raise
        except PlatformError:
            return _steps(plan.plan_new(want))

    def apply(self, platform: Platform, ready: Ready) -> Done:
        if not sso.guards_prefect(platform.settings) or not platform.served:
            return Done()
        with api(platform) as client:
            return Done(_steps(apps.ensure(client, wanted(platform), platform.say)))


_KEEP = Step("keep", "Authentik's token in Vault", "AUTHENTIK_TOKEN gives it")


def _steps(changes: Iterable[application.Change]) -> tuple[Step, ...]:
    return tuple(Step.of(f"{each.action} Authentik {each.kind} {each.name}", each.cause) for each in changes)


def _named(changes: Iterable[str]) -> tuple[Step, ...]:
    return tuple(Step.of(each, "Authentik is new") for each in changes)


def _token_to_keep(platform: Platform) -> str:
    """Of an Authentik that runs elsewhere: a token that was given and is not in Vault yet."""
    given = os.environ.get("AUTHENTIK_TOKEN", "")
    held = platform.target.store.read(STACK).get(TOKEN)
    return "" if held and held.value == given else given


def _keep_given(platform: Platform) -> tuple[Step, ...]:
    with api(platform) as client:
        if not bootstrap.works(client):
            raise PreflightError(
                f"Authentik at {client.url}: it rejects the token",
                "an administrator creates one (rights: docs/sso.md): AUTHENTIK_TOKEN=… ./invoke authentik.setup",
            )
    if not (given := _token_to_keep(platform)):
        return ()
    platform.target.store.merge(STACK, {TOKEN: given})
    return (_KEEP,)


def _is_ours(platform: Platform) -> bool:
    """Whether our account works and the bootstrap token is deleted; False while Authentik cannot be reached."""
    try:
        values = platform.target.store.read(STACK)
        with api(platform, values[TOKEN]) as ours, api(platform, values[_BOOTSTRAP]) as admin:
            return bootstrap.works(ours) and not bootstrap.works(admin)
    except (PlatformError, KeyError):
        return False


def _bootstrap(platform: Platform) -> tuple[Step, ...]:
    if _is_ours(platform):
        return ()
    values = platform.target.store.read(STACK)
    with api(platform, values[TOKEN]) as ours, api(platform, values[_BOOTSTRAP]) as admin:
        bootstrap.wait_ready(admin, _READY_SECONDS, platform.say)
        group = platform.settings.values["authentik"]["admin_group"]
        return _named(bootstrap.admit(admin, ours, values[TOKEN].value, group))
