"""The collections of the REST API: where an object is kept, how it is shown, what it can be asked for by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import shown
from .state import Json


@dataclass(frozen=True)
class Kind:
    """A collection: its key in the state, the model its permissions speak of, how an object is shown, and the filters it knows."""

    table: str
    model: str
    show: Callable[[Json, Json], Json]
    by: str
    filters: dict[str, Callable[[Json, str], bool]]
    title: str


def _exact(name: str) -> Callable[[Json, str], bool]:
    return lambda each, wanted: str(each[name]) == wanted


def _iexact(name: str) -> Callable[[Json, str], bool]:
    return lambda each, wanted: str(each[name] or "").lower() == wanted.lower()


KINDS = {
    "flows/instances": Kind(
        "flows", "authentik_flows.flow", shown.flow, "slug", {"slug": _exact("slug")}, "Flow"
    ),
    "providers/proxy": Kind(
        "providers",
        "authentik_providers_proxy.proxyprovider",
        shown.provider,
        "pk",
        {
            "name__iexact": _iexact("name"),
            "external_host__iexact": _iexact("external_host"),
            "mode__iexact": _iexact("mode"),
        },
        "ProxyProvider",
    ),
    "core/applications": Kind(
        "applications",
        "authentik_core.application",
        shown.application,
        "slug",
        {"slug": _exact("slug"), "name": _exact("name")},
        "Application",
    ),
    "core/groups": Kind(
        "groups", "authentik_core.group", shown.group, "pk", {"name": _exact("name")}, "Group"
    ),
    "core/users": Kind(
        "users", "authentik_core.user", shown.user, "pk", {"username": _exact("username")}, "User"
    ),
    "core/tokens": Kind(
        "tokens",
        "authentik_core.token",
        shown.token,
        "identifier",
        {"identifier": _exact("identifier")},
        "Token",
    ),
    "rbac/roles": Kind("roles", "authentik_rbac.role", shown.role, "pk", {"name": _exact("name")}, "Role"),
    "policies/bindings": Kind(
        "bindings",
        "authentik_policies.policybinding",
        shown.binding,
        "pk",
        {"target": _exact("target")},
        "PolicyBinding",
    ),
    "outposts/instances": Kind(
        "outposts",
        "authentik_outposts.outpost",
        shown.outpost,
        "pk",
        {"managed__iexact": _iexact("managed"), "name__iexact": _iexact("name")},
        "Outpost",
    ),
}
