"""The applications of an Authentik: looking at them, and doing what the plan says.

`ensure` does the first change and looks again, until there is none: so an interruption anywhere is the same as a stop between two
changes, and the effect of a lost reply is observed.
"""

from __future__ import annotations

from collections.abc import Callable

from prefect_platform.errors import ApplyError

from .application import AUTHORIZATION, INVALIDATION, Change, Observed, Wanted
from .client import Api, AuthentikError, Json, part
from .plan import grants, plan

EMBEDDED = "goauthentik.io/outposts/embedded"
_TRIES = 3


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
            "Authentik creates it within minutes of its first start; if it was deleted: Customization → Blueprints → default, apply again",
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
            "remove AUTHENTIK_OUTPOSTS__DISABLE_EMBEDDED_OUTPOST and restart it",
        )
    return found[0]


def listed(api: Api) -> list[Json]:
    """Every proxy provider with its application: slug, name, external_host, groups (none: everybody), served. Keys are stable."""
    served = set(embedded_outpost(api)["providers"])
    return [_listed(api, each, served) for each in api.pages("/providers/proxy/")]


def _listed(api: Api, provider: Json, served: set[int]) -> Json:
    slug = provider["assigned_application_slug"]
    application = api.get(f"/core/applications/{part(slug)}/") if slug else None
    bindings = api.pages("/policies/bindings/", target=application["pk"]) if application else ()
    groups = sorted(each["group_obj"]["name"] for each in bindings if grants(each) and each.get("group_obj"))
    return {
        "slug": slug,
        "name": provider["name"],
        "external_host": provider["external_host"],
        "groups": groups,
        "served": provider["pk"] in served,
    }


def ensure(
    api: Api,
    want: Wanted,
    say: Callable[[str], None],
    decide: Callable[[Wanted, Observed], list[Change]] = plan,
) -> tuple[Change, ...]:
    """Apply the changes; returns those made, () if none. Interrupted anywhere, the next call resumes."""
    tried: dict[Change, int] = {}
    while changes := decide(want, observe(api, want)):
        change = changes[0]
        tried[change] = tried.get(change, 0) + 1
        if tried[change] > _TRIES:
            raise ApplyError(
                f"Authentik at {api.url}: {change}: sent {_TRIES} times without effect",
                "its log may say why; then run it again",
            )
        try:
            api.write(change.method, change.path, change.body)
            say(str(change))
        except AuthentikError as error:
            if not error.lost:
                raise _explained(error, change) from None
            say(f"error on: {change}; checking whether it was applied")
    return tuple(tried)


def _explained(error: AuthentikError, change: Change) -> AuthentikError:
    hint = error.hint
    if change.kind == "provider" and error.status == 400 and "name" in error.reason:
        hint = "a provider of another kind has that name: choose another --name"
    return type(error)(f"{error.reason} (to have {change})", error.status, hint)
