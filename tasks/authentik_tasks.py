"""Authentik's applications, groups and tokens. Also as authentik.shared.…, as older runbooks call them."""

from __future__ import annotations

from invoke.context import Context

from prefect_platform.cli import streams

from ._context import platform, require_reader, say, show
from ._task import task

_PROXY_APP = {
    "name": "what people see",
    "slug": "its short name in URLs",
    "external-host": "where people reach it, without a path",
    "internal-host": "the host name of the service behind",
    "port": "its port",
    "allowed-groups": "groups of Authentik, comma-separated; one of them is enough",
    "everyone": "allow every user instead of groups",
    "create-groups": "create missing groups",
    "adopt": "take over an application that has another provider",
    "dry-run": "show the changes, make none",
}


@task(name="create-proxy-app", help=_PROXY_APP)
def create_proxy_app(
    c: Context,
    name: str,
    slug: str,
    external_host: str,
    internal_host: str,
    port: int,
    allowed_groups: str = "",
    everyone: bool = False,
    create_groups: bool = False,
    adopt: bool = False,
    dry_run: bool = False,
    json: bool = False,
    env: str = "production",
) -> None:
    """Put an application behind single sign-on.

    Example: ./invoke authentik.create-proxy-app --name=Grafana --slug=grafana \\
      --external-host=https://grafana.example.com --internal-host=grafana \\
      --port=3000 --allowed-groups=admins
    """
    from prefect_platform.config import sso
    from prefect_platform.environment.provisioners import sign_on as authentik
    from prefect_platform.provisioning.authentik import application, apps, plan

    p = platform(c, env)
    groups = [each.strip() for each in allowed_groups.split(",") if each.strip()]
    more = {"everyone": everyone, "create_groups": create_groups, "adopt": adopt}
    own = not sso.external(p.settings)
    there = sso.public_url(p.settings)
    want = application.wanted(
        name, slug, external_host, internal_host, int(port), groups, there, own=own, **more
    )
    with authentik.api(p) as client:
        if dry_run:
            changes = plan.plan(want, apps.observe(client, want))
        else:
            with p.target.lock("authentik.create-proxy-app", 600):
                changes = list(apps.ensure(client, want, lambda line: None))
    _told(application.outcome(want, changes), json)
    if dry_run:
        say("a dry run: nothing was written")


@task(
    name="remove-proxy-app",
    help={
        "slug": "its short name in URLs",
    },
)
def remove_proxy_app(
    c: Context, slug: str, yes: bool = False, json: bool = False, env: str = "production"
) -> None:
    """Remove an application and its provider.

    Example: ./invoke authentik.remove-proxy-app --slug=grafana --yes
    """
    from prefect_platform.environment.provisioners import sign_on as authentik
    from prefect_platform.errors import ConfigError
    from prefect_platform.provisioning.authentik import apps
    from prefect_platform.provisioning.authentik.application import Wanted
    from prefect_platform.provisioning.authentik.plan import plan_removal

    p = platform(c, env)
    want = Wanted("", slug, "", "", (), "")
    with authentik.api(p) as client:
        changes = plan_removal(want, apps.observe(client, want))
        if not yes and changes:
            raise ConfigError("; ".join(f"would be {each}" for each in changes), "add --yes to do it")
        with p.target.lock("authentik.remove-proxy-app", 600):
            done = apps.ensure(client, want, lambda line: None, plan_removal)
    names = ("action", "kind", "name", "cause")
    _told([{name: getattr(each, name) for name in names} for each in done], json)
    if not done:
        say("no such application: nothing to remove")


@task(name="list-apps")
def list_apps(c: Context, json: bool = False, env: str = "production") -> None:
    """List the applications and who may use them.

    Example: ./invoke authentik.list-apps
    """
    from prefect_platform.environment.provisioners import sign_on as authentik
    from prefect_platform.provisioning.authentik import apps

    with authentik.api(platform(c, env)) as client:
        found = apps.listed(client)
    if json:
        return show(found)
    rows = [
        [
            each["slug"] or "(no application)",
            each["name"],
            each["external_host"],
            ", ".join(each["groups"]) or "everybody",
            "yes" if each["served"] else "no",
        ]
        for each in found
    ]
    _table([["SLUG", "NAME", "HOST", "GROUPS", "SERVED"], *rows])
    return None


@task(
    name="setup-admin-group",
    help={
        "group": "its name",
        "user": "a user to put into it",
    },
)
def setup_admin_group(c: Context, group: str = "", user: str = "akadmin", env: str = "production") -> None:
    """Create the administrators' group; add a user.

    Example: AUTHENTIK_TOKEN=… ./invoke authentik.setup-admin-group --user jo

    Needs an administrator's API token.
    """
    from prefect_platform.environment.provisioners import sign_on as authentik
    from prefect_platform.provisioning.authentik import bootstrap

    p = platform(c, env)
    name = group or p.settings.values["authentik"]["admin_group"]
    with authentik.api(p) as client, p.target.lock("authentik.setup-admin-group", 600):
        if made := bootstrap.ensure_group(client, name, user):
            return say(made[0])
        bootstrap.add_member(client, name, user)
    return say(f"{user} is in group {name}")


@task(
    name="create-api-token",
    help={
        "name": "what the token is called",
        "user": "its owner",
    },
)
def create_api_token(c: Context, name: str, user: str = "akadmin", env: str = "production") -> None:
    """Create an API token; it is printed once.

    Example: AUTHENTIK_TOKEN=… ./invoke authentik.create-api-token --name ci

    Needs an administrator's API token.
    """
    from prefect_platform.environment.provisioners import sign_on as authentik
    from prefect_platform.errors import PlatformError
    from prefect_platform.provisioning.authentik import bootstrap

    p = platform(c, env)
    require_reader("token")
    with authentik.api(p) as client:
        made = bootstrap.create_token(client, name, user)
    if why := streams.deliver(made):
        raise PlatformError(
            f"authentik.create-api-token: standard output: {why}: nobody received the token {name!r}",
            "delete it, or copy its key: Authentik, Directory, Tokens and App passwords",
        )


@task(name="first-password")
def first_password(c: Context, env: str = "production") -> None:
    """Print akadmin's initial password.

    Example: ./invoke authentik.first-password --env production
    """
    from prefect_platform.environment.provisioners import sign_on as authentik
    from prefect_platform.errors import PreflightError

    held = platform(c, env).target.store.read(authentik.STACK).get("AUTHENTIK_BOOTSTRAP_PASSWORD")
    if held is None:
        raise PreflightError("this environment runs no Authentik", f"./invoke authentik.setup --env {env}")
    say("user akadmin. Change it after the first login; this copy is not updated")
    print(held.value)


def _told(lines: list[dict[str, str]], json: bool) -> None:
    if json:
        return show(lines)
    return _table([[each["action"], each["kind"], each["name"], each["cause"]] for each in lines])


def _table(rows: list[list[str]]) -> None:
    if not rows:
        return
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
