"""Wanted and observed state → the changes, in a safe order. Pure.

An application without a binding is open to every user. So it gets its provider after its bindings, and the outpost, which serves it,
gets the provider last.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from prefect_platform.errors import ConfigError

from .application import AUTHORIZATION, INVALIDATION, OUTPOST, Change, Observed, Wanted, binding_name, origin
from .client import Json, part

VALIDITY = "hours=24"
"""A single-page application notices the end of its session only when it is reloaded."""
NEW = "(new)"


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


def plan_new(want: Wanted) -> list[Change]:
    """The changes for an Authentik that has only the configured groups: the estimate while it cannot be queried."""
    outpost: Json = {"pk": NEW, "providers": [], "config": {}}
    flows = {AUTHORIZATION: NEW, INVALIDATION: NEW}
    return plan(want, Observed(flows, dict.fromkeys(want.groups, NEW), (), None, (), outpost))


def _groups_exist(want: Wanted, seen: Observed) -> None:
    missing = [name for name in want.groups if name not in seen.groups]
    if missing and not want.create_groups:
        raise ConfigError(
            f"--allowed-groups: Authentik has no group {missing[0]!r}",
            "create it in Authentik (./invoke authentik.setup-admin-group for the administrators), or pass --create-groups",
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
            f"--name {want.name!r}: Authentik has a provider {near[0]['name']!r}, which differs only in case",
            f"--name={near[0]['name']!r} if you mean that one",
        )
    return same[0] if same else None


def _application_is_ours(want: Wanted, seen: Observed, provider: Json | None) -> None:
    other = provider and provider["assigned_application_slug"]
    if other and other != want.slug:
        raise ConfigError(
            f"--name {want.name!r}: that provider belongs to application {other!r}",
            f"--slug={other} if you mean that one, or another --name",
        )
    joined = seen.application and seen.application["provider"]
    if joined is not None and seen.application and joined != (provider or {}).get("pk") and not want.adopt:
        raise ConfigError(
            f"--slug {want.slug}: that application has another provider already (number {joined})",
            "use another --slug, or --adopt to take it over (its current provider is then unused)",
        )


def _provider_changes(want: Wanted, seen: Observed, provider: Json | None) -> list[Change]:
    rest = {
        "name": want.name,
        "authorization_flow": seen.flows[AUTHORIZATION],
        "invalidation_flow": seen.flows[INVALIDATION],
        "external_host": want.external_host,
        # Clients with our tokens never come here; a browser's Basic header must not either.
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
    granting = {str(each["group"]) for each in seen.bindings if grants(each)}
    changes: list[Change] = []
    for name, key in keys.items():
        if key in granting:
            continue
        # Equal orders are allowed in the database, and refused by some updates.
        order = next(number for number in range(len(taken) + 1) if number not in taken)
        taken.add(order)
        body: Json = {"target": target, "group": key, "order": order}
        changes.append(
            Change(
                "created", "binding", binding_name(want.slug, name), "POST", "/policies/bindings/", body=body
            )
        )
    kept: set[str] = set()
    for each in seen.bindings:
        if not each["group"] or each["negate"]:
            continue
        group = str(each["group"])
        if grants(each) and group in keys.values() and group not in kept:
            kept.add(group)
            continue
        who = (each.get("group_obj") or {}).get("name", group)
        cause = "no longer wanted" if group not in keys.values() else "is a duplicate, disabled or expired"
        path = f"/policies/bindings/{each['pk']}/"
        changes.append(Change("removed", "binding", binding_name(want.slug, who), "DELETE", path, cause))
    return changes


def grants(binding: Json) -> bool:
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
    return [Change("updated", "outpost", OUTPOST, "PATCH", path, ", ".join(body), body)]


def _host_is_wrong(known: str, want: Wanted) -> bool:
    """Where browsers are redirected. In an external Authentik only what is certainly wrong is changed."""
    if known.rstrip("/") == want.sso_url:
        return False
    host = urlsplit(known).hostname or ""
    return want.own or not host or host in ("localhost", "0.0.0.0", "127.0.0.1") or "." not in host


def plan_removal(want: Wanted, seen: Observed) -> list[Change]:
    """Removal: first deny access through it, then delete it. Bindings are deleted with the application."""
    if seen.application is None:
        return []
    joined = seen.application["provider"]
    changes = []
    if joined in seen.outpost["providers"]:
        rest = sorted({*seen.outpost["providers"]} - {joined})
        path = f"/outposts/instances/{seen.outpost['pk']}/"
        changes.append(Change("updated", "outpost", OUTPOST, "PATCH", path, "providers", {"providers": rest}))
    # The provider first: without its application it could not be found again.
    if any(each["pk"] == joined for each in seen.providers):
        changes.append(Change("removed", "provider", str(joined), "DELETE", f"/providers/proxy/{joined}/"))
    path = f"/core/applications/{part(want.slug)}/"
    return [*changes, Change("removed", "application", want.slug, "DELETE", path)]
