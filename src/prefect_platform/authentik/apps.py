"""A proxy application in Authentik: what is wanted and what is there → the changes, in a safe order.

`plan` and `plan_removal` are pure. `ensure` does the first change and looks again, until there is none: so an interruption anywhere is
the same as a stop between two changes, and a reply that was lost is seen as what it did.

An application without a binding is open to every user. So it gets its provider after its bindings, and the outpost, which serves it,
gets the provider last.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from ..errors import ApplyError, ConfigError
from .client import Api, AuthentikError, Json, part

AUTHORIZATION = "default-provider-authorization-implicit-consent"
INVALIDATION = "default-provider-invalidation-flow"
EMBEDDED = "goauthentik.io/outposts/embedded"
VALIDITY = "hours=24"
"""A single-page application notices the end of its session only when it is reloaded."""
NEW = "(new)"
_TRIES = 3


@dataclass(frozen=True)
class Wanted:
    """`external_host` is where people reach it, `internal` the service behind; `groups` of which one is enough.

    `everyone`: no group is meant. `sso_url` is Authentik's public URL; `own`: it is ours to say.
    """

    name: str
    slug: str
    external_host: str
    internal: str
    groups: tuple[str, ...]
    sso_url: str
    everyone: bool = False
    create_groups: bool = False
    adopt: bool = False
    own: bool = False


@dataclass(frozen=True)
class Observed:
    """What Authentik has. `providers` are those of the wanted name or of the application, `groups` name → pk of those that exist."""

    flows: Mapping[str, str]
    groups: Mapping[str, str]
    providers: tuple[Json, ...]
    application: Json | None
    bindings: tuple[Json, ...]
    outpost: Json


@dataclass(frozen=True)
class Change:
    """One request. Where a body needs the key of what is made before it, it says `(new)`."""

    action: Literal["created", "updated", "removed"]
    kind: str
    name: str
    method: str
    path: str
    cause: str = ""
    body: Json | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.action} {self.kind} {self.name}{': ' + self.cause if self.cause else ''}"


def wanted(
    name: str,
    slug: str,
    external_host: str,
    internal_host: str,
    port: int,
    groups: Sequence[str],
    sso_url: str,
    **more: bool,
) -> Wanted:
    """From what a person says. Raises ConfigError for what cannot be meant."""
    if not name.strip():
        raise ConfigError("--name: is empty")
    if not slug or not all(each.isascii() and (each.isalnum() or each in "-_") for each in slug):
        raise ConfigError(f"--slug {slug!r}: letters, digits, dashes and underscores only")
    if not 0 < port < 65536:
        raise ConfigError(f"--port {port}: between 1 and 65535")
    if not groups and not more.get("everyone"):
        raise ConfigError(
            "--allowed-groups: none given, and an application without a group is open to every user of Authentik",
            "--allowed-groups=admins, or say it out loud: --everyone",
        )
    if groups and more.get("everyone"):
        raise ConfigError("--everyone and --allowed-groups: one of the two")
    return Wanted(
        name,
        slug,
        origin(external_host),
        f"http://{internal_host}:{port}",
        tuple(dict.fromkeys(groups)),
        sso_url,
        **more,
    )


def origin(url: str) -> str:
    """Scheme and host, as they are compared: lower case, nothing after. Raises ConfigError."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.path not in ("", "/")
        or parts.query
    ):
        raise ConfigError(
            f"--external-host {url!r}: a URL like https://prefect.example.com, without a path",
            "the sign-on takes a whole host: what is under a path of one host belongs to that host's application",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    standard = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}{f':{port}' if port and port != standard else ''}"


# -- looking
def observe(api: Api, want: Wanted) -> Observed:
    """Raises AuthentikError; nothing is written."""
    application = api.get(f"/core/applications/{part(want.slug)}/")
    providers = {each["pk"]: each for each in api.pages("/providers/proxy/", name__iexact=want.name)}
    if application and application["provider"] is not None and application["provider"] not in providers:
        joined = api.get(f"/providers/proxy/{application['provider']}/")
        providers |= {joined["pk"]: joined} if joined else {}
    bindings = api.pages("/policies/bindings/", target=application["pk"]) if application else ()
    return Observed(
        {slug: _flow(api, slug) for slug in (AUTHORIZATION, INVALIDATION)},
        {name: pk for name in want.groups if (pk := group_key(api, name))},
        tuple(providers.values()),
        application,
        tuple(bindings),
        embedded_outpost(api),
    )


def group_key(api: Api, name: str) -> str | None:
    """The key of a group by its exact name."""
    found = api.pages("/core/groups/", name=name, include_users=False)
    return next((str(each["pk"]) for each in found if each["name"] == name), None)


def _flow(api: Api, slug: str) -> str:
    found = api.get(f"/flows/instances/{slug}/")
    if not found:
        raise AuthentikError(
            f"Authentik at {api.url}: it has no flow {slug}",
            404,
            "a new one makes it within some minutes of its start; if it was deleted: Customization → Blueprints → default, apply again",
        )
    return str(found["pk"])


def embedded_outpost(api: Api) -> Json:
    """The outpost inside the server, which answers Traefik."""
    found = [
        each
        for each in api.pages("/outposts/instances/", managed__iexact=EMBEDDED)
        if each["managed"] == EMBEDDED
    ]
    if not found:
        raise AuthentikError(
            f"Authentik at {api.url}: it has no embedded outpost",
            404,
            "take AUTHENTIK_OUTPOSTS__DISABLE_EMBEDDED_OUTPOST away and start it anew",
        )
    return found[0]


# -- deciding
def plan(want: Wanted, seen: Observed) -> list[Change]:
    """What is to be done, in order. Raises ConfigError for what only a person can decide."""
    _groups_exist(want, seen)
    provider = _provider(want, seen)
    _application_is_ours(want, seen, provider)
    groups, keys = _groups(want, seen)
    key = provider["pk"] if provider else NEW
    return [
        *groups,
        *_provider_changes(want, seen, provider),
        *_application_changes(want, seen),
        *_binding_changes(want, seen, keys),
        *_join(want, seen, key),
        *_outpost_changes(want, seen, key),
    ]


def _groups_exist(want: Wanted, seen: Observed) -> None:
    missing = [name for name in want.groups if name not in seen.groups]
    if missing and not want.create_groups:
        raise ConfigError(
            f"--allowed-groups: Authentik has no group {missing[0]!r}",
            "make it there (./invoke authentik.setup-admin-group makes the administrators'), or let it be made: --create-groups",
        )


def _groups(want: Wanted, seen: Observed) -> tuple[list[Change], dict[str, str]]:
    missing = [name for name in want.groups if name not in seen.groups]
    made = [
        Change("created", "group", name, "POST", "/core/groups/", body={"name": name}) for name in missing
    ]
    return made, {name: seen.groups.get(name, NEW) for name in want.groups}


def _provider(want: Wanted, seen: Observed) -> Json | None:
    same = [each for each in seen.providers if each["name"] == want.name]
    near = [
        each
        for each in seen.providers
        if each["name"] != want.name and each["name"].lower() == want.name.lower()
    ]
    if not same and near:
        raise ConfigError(
            f"--name {want.name!r}: Authentik has a provider {near[0]['name']!r}, whose name differs in case only",
            f"--name={near[0]['name']!r} if that is meant",
        )
    return same[0] if same else None


def _application_is_ours(want: Wanted, seen: Observed, provider: Json | None) -> None:
    other = provider and provider["assigned_application_slug"]
    if other and other != want.slug:
        raise ConfigError(
            f"--name {want.name!r}: that provider belongs to application {other!r}",
            f"--slug={other} if that is meant, or another --name",
        )
    joined = seen.application and seen.application["provider"]
    if joined is not None and seen.application and joined != (provider or {}).get("pk") and not want.adopt:
        raise ConfigError(
            f"--slug {want.slug}: that application has another provider already (number {joined})",
            "another --slug; or take it over, its provider is then no longer used: --adopt",
        )


def _provider_changes(want: Wanted, seen: Observed, provider: Json | None) -> list[Change]:
    rest = {
        "name": want.name,
        "authorization_flow": seen.flows[AUTHORIZATION],
        "invalidation_flow": seen.flows[INVALIDATION],
        "external_host": want.external_host,
        # Clients with a token of ours never come here; a browser's Basic header must not either.
        "intercept_header_auth": False,
        "access_token_validity": VALIDITY,
    }
    # A PATCH without these two is judged as if it were of mode `proxy`.
    always = {"mode": "forward_single", "internal_host": want.internal}
    if provider is None:
        return [
            Change("created", "provider", want.name, "POST", "/providers/proxy/", body={**rest, **always})
        ]
    there = {**provider, "external_host": _comparable(provider["external_host"])}
    changed = [name for name, value in {**rest, **always}.items() if str(there.get(name)) != str(value)]
    if not changed:
        return []
    body = {name: value for name, value in rest.items() if name in changed} | always
    cause = ", ".join(changed)
    return [
        Change("updated", "provider", want.name, "PATCH", f"/providers/proxy/{provider['pk']}/", cause, body)
    ]


def _comparable(url: str) -> str:
    try:
        return origin(url)
    except ConfigError:
        return url


def _application_changes(want: Wanted, seen: Observed) -> list[Change]:
    body: Json = {
        "name": want.name,
        "slug": want.slug,
        "policy_engine_mode": "any",
        "meta_launch_url": want.external_host,
    }
    if seen.application is None:
        return [Change("created", "application", want.slug, "POST", "/core/applications/", body=body)]
    changed = {name: value for name, value in body.items() if seen.application[name] != value}
    if not changed:
        return []
    path = f"/core/applications/{part(want.slug)}/"
    return [Change("updated", "application", want.slug, "PATCH", path, ", ".join(changed), changed)]


def _binding_changes(want: Wanted, seen: Observed, keys: Mapping[str, str]) -> list[Change]:
    """Those of groups are ours: what is not wanted any more goes, after what is wanted has come. Those of users and policies, and
    those that forbid, are somebody else's.
    """
    target = str(seen.application["pk"]) if seen.application else NEW
    taken = {each["order"] for each in seen.bindings}
    granting = {str(each["group"]) for each in seen.bindings if _grants(each)}
    changes: list[Change] = []
    for name, key in keys.items():
        if key in granting:
            continue
        # Equal orders are allowed in the database, and refused by some updates.
        order = next(number for number in range(len(taken) + 1) if number not in taken)
        taken.add(order)
        body: Json = {"target": target, "group": key, "order": order}
        changes.append(
            Change("created", "binding", f"{want.slug} ← {name}", "POST", "/policies/bindings/", body=body)
        )
    kept: set[str] = set()
    for each in seen.bindings:
        if not each["group"] or each["negate"]:
            continue
        group = str(each["group"])
        if _grants(each) and group in keys.values() and group not in kept:
            kept.add(group)
            continue
        who = (each.get("group_obj") or {}).get("name", group)
        cause = (
            "no longer wanted" if group not in keys.values() else "is another's double, disabled or expired"
        )
        path = f"/policies/bindings/{each['pk']}/"
        changes.append(Change("removed", "binding", f"{want.slug} ← {who}", "DELETE", path, cause))
    return changes


def _grants(binding: Json) -> bool:
    if not binding["group"] or binding["negate"] or not binding["enabled"]:
        return False
    ends = binding.get("expires") if binding.get("expiring") else None
    return not ends or datetime.datetime.fromisoformat(ends) > datetime.datetime.now(datetime.UTC)


def _join(want: Wanted, seen: Observed, provider: Any) -> list[Change]:
    if seen.application and seen.application["provider"] == provider:
        return []
    path, body = f"/core/applications/{part(want.slug)}/", {"provider": provider}
    return [Change("updated", "application", want.slug, "PATCH", path, "provider", body)]


def _outpost_changes(want: Wanted, seen: Observed, provider: Any) -> list[Change]:
    body: Json = {}
    if provider not in seen.outpost["providers"]:
        # The whole list and the whole mapping: Authentik replaces, it does not merge.
        body["providers"] = [provider] if provider == NEW else sorted({*seen.outpost["providers"], provider})
    known = str(seen.outpost["config"].get("authentik_host") or "")
    if _host_is_wrong(known, want):
        body["config"] = {**seen.outpost["config"], "authentik_host": want.sso_url}
    if not body:
        return []
    path = f"/outposts/instances/{seen.outpost['pk']}/"
    return [Change("updated", "outpost", seen.outpost["name"], "PATCH", path, ", ".join(body), body)]


def _host_is_wrong(known: str, want: Wanted) -> bool:
    """Where browsers are sent to. Of somebody else's Authentik only what cannot be right is changed."""
    if known.rstrip("/") == want.sso_url:
        return False
    host = urlsplit(known).hostname or ""
    return want.own or not host or host in ("localhost", "0.0.0.0", "127.0.0.1") or "." not in host


def plan_removal(want: Wanted, seen: Observed) -> list[Change]:
    """The way back: first nobody is let in through it any more, then it goes. Bindings go with the application."""
    if seen.application is None:
        return []
    joined = seen.application["provider"]
    changes = []
    if joined in seen.outpost["providers"]:
        rest = sorted({*seen.outpost["providers"]} - {joined})
        path = f"/outposts/instances/{seen.outpost['pk']}/"
        changes.append(
            Change(
                "updated", "outpost", seen.outpost["name"], "PATCH", path, "providers", {"providers": rest}
            )
        )
    # The provider first: without its application it could not be found again.
    if any(each["pk"] == joined for each in seen.providers):
        changes.append(Change("removed", "provider", str(joined), "DELETE", f"/providers/proxy/{joined}/"))
    path = f"/core/applications/{part(want.slug)}/"
    return [*changes, Change("removed", "application", want.slug, "DELETE", path)]


def listed(api: Api) -> list[Json]:
    """Every proxy provider with its application: slug, name, external_host, groups (none: everybody), served. Keys are stable."""
    served = set(embedded_outpost(api)["providers"])
    return [_listed(api, each, served) for each in api.pages("/providers/proxy/")]


def _listed(api: Api, provider: Json, served: set[int]) -> Json:
    slug = provider["assigned_application_slug"]
    application = api.get(f"/core/applications/{part(slug)}/") if slug else None
    bindings = api.pages("/policies/bindings/", target=application["pk"]) if application else ()
    groups = sorted(each["group_obj"]["name"] for each in bindings if _grants(each) and each.get("group_obj"))
    return {
        "slug": slug,
        "name": provider["name"],
        "external_host": provider["external_host"],
        "groups": groups,
        "served": provider["pk"] in served,
    }


# -- doing
def ensure(
    api: Api,
    want: Wanted,
    say: Callable[[str], None],
    decide: Callable[[Wanted, Observed], list[Change]] = plan,
) -> tuple[Change, ...]:
    """Make it so; returns what was changed, () if nothing was. Interrupted anywhere, the next call goes on."""
    tried: dict[Change, int] = {}
    while changes := decide(want, observe(api, want)):
        change = changes[0]
        tried[change] = tried.get(change, 0) + 1
        if tried[change] > _TRIES:
            raise ApplyError(
                f"Authentik at {api.url}: {change}: it was sent {_TRIES} times and does not show",
                "its log may say why; then run it again",
            )
        try:
            api.write(change.method, change.path, change.body)
            say(str(change))
        except AuthentikError as error:
            if not error.lost:
                raise _explained(error, change) from None
            say(f"no good answer to: {change}; looking whether it was done")
    return tuple(tried)


def _explained(error: AuthentikError, change: Change) -> AuthentikError:
    hint = error.hint
    if change.kind == "provider" and error.status == 400 and "name" in error.reason:
        hint = "a provider of another kind has that name: choose another --name"
    return type(error)(f"{error.reason} (to have {change})", error.status, hint)
