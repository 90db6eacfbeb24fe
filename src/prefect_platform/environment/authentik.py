"""The Authentik of an environment: our own stack's, reached through the host, or one that runs elsewhere."""

from __future__ import annotations

import os

from prefect_platform.config import sso, tls
from prefect_platform.errors import PreflightError
from prefect_platform.provisioning.authentik import application, apps, bootstrap
from prefect_platform.provisioning.authentik.client import Api
from prefect_platform.secretstore.store import Secret

from .opened import Platform

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
    return platform.target.reach(STACK, "server", 9000)


def set_up(platform: Platform) -> tuple[str, ...]:
    """After its containers are up: our account in it, and the bootstrap token gone. Returns what was changed."""
    return _keep_given(platform) if sso.external(platform.settings) else _bootstrap(platform)


def _keep_given(platform: Platform) -> tuple[str, ...]:
    """Of an Authentik that runs elsewhere: the token that was given once is kept in Vault."""
    with api(platform) as client:
        if not bootstrap.works(client):
            raise PreflightError(
                f"Authentik at {client.url}: it does not take the token",
                "an administrator makes one (docs/sso.md says what it must be allowed to do): AUTHENTIK_TOKEN=… ./invoke authentik.setup",
            )
    given = os.environ.get("AUTHENTIK_TOKEN", "")
    held = platform.target.store.read(STACK).get(TOKEN)
    if not given or (held and held.value == given):
        return ()
    platform.target.store.write(STACK, {TOKEN: given})
    change = "kept the token of Authentik in Vault"
    platform.say(change)
    return (change,)


def _bootstrap(platform: Platform) -> tuple[str, ...]:
    values = platform.target.store.read(STACK)
    with api(platform, values[TOKEN]) as ours, api(platform, values[_BOOTSTRAP]) as admin:
        if bootstrap.works(ours) and not bootstrap.works(admin):
            return ()
        bootstrap.wait_ready(admin, _READY_SECONDS, platform.say)
        group = platform.settings.values["authentik"]["admin_group"]
        changes = bootstrap.admit(admin, ours, values[TOKEN].value, group)
    for change in changes:
        platform.say(change)
    return changes


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


def ensure_prefect(platform: Platform) -> tuple[str, ...]:
    """Prefect's application in Authentik as declared; returns what was changed."""
    if not sso.guards_prefect(platform.settings):
        return ()
    with api(platform) as client:
        done = apps.ensure(client, wanted(platform), platform.say)
    return tuple(str(change) for change in done)
