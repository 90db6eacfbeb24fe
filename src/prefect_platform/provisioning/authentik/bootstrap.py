"""Prepares a new Authentik: its administrators' group, and an account for the platform with only the rights that it needs.

The bootstrap token belongs to akadmin and may do everything; it is deleted once our account works.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from prefect_platform.errors import PlatformError

from .application import AUTHORIZATION, INVALIDATION
from .apps import embedded_outpost, group_key
from .client import Api, AuthentikError, Forbidden, part

ACCOUNT = "prefect-platform"
BOOTSTRAP = "authentik-bootstrap-token"
FIRST_USER = "akadmin"
PERMISSIONS = (
    *(f"authentik_core.{verb}_application" for verb in ("view", "add", "change", "delete")),
    "authentik_core.view_group",
    "authentik_core.add_group",
    *(f"authentik_providers_proxy.{verb}_proxyprovider" for verb in ("view", "add", "change", "delete")),
    *(f"authentik_policies.{verb}_policybinding" for verb in ("view", "add", "change", "delete")),
    "authentik_flows.view_flow",
    "authentik_outposts.view_outpost",
    "authentik_outposts.change_outpost",
)
"""All that apps.py does. No user, no member of a group, no token: with those an account could make itself an administrator."""


def of_new(group: str) -> tuple[str, ...]:
    """What `admit` does to a new Authentik, in its words."""
    return (
        f"created group {group} with {FIRST_USER}",
        f"created account {ACCOUNT}",
        "deleted the bootstrap token",
    )


def works(api: Api) -> bool:
    """Whether its token is known. Raises AuthentikError when that cannot be found out."""
    try:
        return api.get("/core/users/me/") is not None
    except Forbidden:
        return False


def wait_ready(api: Api, seconds: float, say: Callable[[str], None]) -> None:
    """A new installation answers long before its worker has made token, flows and outpost. Raises PlatformError after `seconds`."""
    deadline, told = time.monotonic() + seconds, False
    while missing := _missing(api):
        if time.monotonic() > deadline:
            raise PlatformError(
                f"Authentik at {api.url}: after {seconds:g} s: {missing}",
                "./invoke authentik.logs --service worker; if our account was deleted there: AUTHENTIK_TOKEN=… (an administrator's) ./invoke authentik.setup",
            )
        if not told:
            told = True
            say(f"waiting for Authentik to set itself up ({missing})")
        time.sleep(1)


def _missing(api: Api) -> str:
    try:
        if not works(api):
            return "the bootstrap token is not active yet"
        for slug in (AUTHORIZATION, INVALIDATION):
            if not api.get(f"/flows/instances/{slug}/"):
                return f"flow {slug} does not exist yet"
        outpost = embedded_outpost(api)
        return (
            ""
            if api.get(f"/outposts/instances/{outpost['pk']}/health/")
            else "its outpost has not reported yet"
        )
    except AuthentikError as error:
        return error.reason


def admit(admin: Api, ours: Api, key: str, group: str) -> tuple[str, ...]:
    """Our account with its token, whose key is given, and the administrators' group; then the bootstrap token goes. Interrupted anywhere,
    the next call resumes.
    """
    changes = list(ensure_group(admin, group, FIRST_USER))
    if not works(ours):
        account = _account(admin)
        role = _role(admin)
        admin.write(
            "POST", f"/rbac/permissions/assigned_by_roles/{role}/assign/", {"permissions": list(PERMISSIONS)}
        )
        admin.write("POST", f"/rbac/roles/{role}/add_user/", {"pk": account})
        _token(admin, ACCOUNT, account, key)
        _drop_password(admin)
        if not works(ours):
            raise PlatformError(
                f"Authentik at {admin.url}: it rejects the token of {ACCOUNT}",
                "./invoke authentik.logs",
            )
        changes.append(f"created account {ACCOUNT}")
    if admin.get(f"/core/tokens/{BOOTSTRAP}/"):
        admin.write("DELETE", f"/core/tokens/{BOOTSTRAP}/")
        changes.append("deleted the bootstrap token")
    return tuple(changes)


def ensure_group(api: Api, name: str, user: str) -> tuple[str, ...]:
    """A group with this member. A new one gets the member; later its members are the administrators' affair."""
    if group_key(api, name):
        return ()
    found = _user(api, user)
    if found is None:
        raise PlatformError(f"Authentik at {api.url}: it has no user {user!r}", "--user NAME")
    # In one request: interrupted between two, the group would stay empty.
    api.write("POST", "/core/groups/", {"name": name, "users": [found]})
    return (f"created group {name} with {user}",)


def add_member(api: Api, group: str, user: str) -> None:
    """Raises PlatformError when one of the two does not exist."""
    found, key = _user(api, user), group_key(api, group)
    if found is None or key is None:
        missing = f"user {user!r}" if found is None else f"group {group!r}"
        raise PlatformError(
            f"Authentik at {api.url}: it has no {missing}", "./invoke authentik.setup-admin-group --help"
        )
    api.write("POST", f"/core/groups/{key}/add_user/", {"pk": found})


def create_token(api: Api, identifier: str, user: str) -> str:
    """A token for the API that does not end; returns its key."""
    account = _user(api, user)
    if account is None:
        raise PlatformError(f"Authentik at {api.url}: it has no user {user!r}", "--user NAME")
    body = {"identifier": identifier, "intent": "api", "user": account, "expiring": False}
    api.write("POST", "/core/tokens/", body)
    return str(api.get(f"/core/tokens/{part(identifier)}/view_key/")["key"])


def _user(api: Api, username: str) -> int | None:
    found = api.pages("/core/users/", username=username)
    return next((int(each["pk"]) for each in found if each["username"] == username), None)


def _account(api: Api) -> int:
    if (known := _user(api, ACCOUNT)) is not None:
        return known
    body = {"name": ACCOUNT, "create_group": False, "expiring": False}
    return int(api.write("POST", "/core/users/service_account/", body)["user_pk"])


def _role(api: Api) -> str:
    known = [each for each in api.pages("/rbac/roles/", name=ACCOUNT) if each["name"] == ACCOUNT]
    return str((known[0] if known else api.write("POST", "/rbac/roles/", {"name": ACCOUNT}))["pk"])


def _token(api: Api, identifier: str, user: int, key: str) -> None:
    if not api.get(f"/core/tokens/{part(identifier)}/"):
        api.write(
            "POST",
            "/core/tokens/",
            {"identifier": identifier, "intent": "api", "user": user, "expiring": False},
        )
    api.write("POST", f"/core/tokens/{part(identifier)}/set_key/", {"key": key})


def _drop_password(api: Api) -> None:
    """Authentik gives a new service account a password too, which nothing needs."""
    identifier = f"service-account-{ACCOUNT}-password"
    if api.get(f"/core/tokens/{identifier}/"):
        api.write("DELETE", f"/core/tokens/{identifier}/")
