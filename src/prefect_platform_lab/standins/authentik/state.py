"""The objects of a stand-in Authentik, and the rules that hold between them. Pure; a state is plain JSON."""

from __future__ import annotations

import uuid
from typing import Any

Json = dict[str, Any]
EMBEDDED = "goauthentik.io/outposts/embedded"
AUTHORIZATION = "default-provider-authorization-implicit-consent"
INVALIDATION = "default-provider-invalidation-flow"
BOOTSTRAP_TOKEN = "authentik-bootstrap-token"  # noqa: S105 - a name
ADMINS = "authentik Admins"


class Invalid(Exception):
    """400 with the messages of the fields."""

    def __init__(self, field: str, message: str) -> None:
        self.body = {field: [message]}
        super().__init__(message)


def empty() -> Json:
    """Before the first start of a worker: no user, no flow, no outpost."""
    return {
        "ready": False,
        "next": 1,
        "users": {},
        "groups": {},
        "roles": {},
        "tokens": {},
        "flows": {},
        "providers": {},
        "other_providers": {},
        "applications": {},
        "bindings": {},
        "outposts": {},
        "sessions": {},
        "switches": {},
    }


def bootstrap(state: Json, token: str, password: str) -> None:
    """What the worker does on the first start: akadmin and its group and token, the default flows, the embedded outpost."""
    if state["ready"]:
        return
    admins = add_group(state, ADMINS, is_superuser=True)
    user = add_user(state, "akadmin", password)
    admins["users"].append(user["pk"])
    if token:
        add_token(state, BOOTSTRAP_TOKEN, user["pk"], token)
    for slug, designation in ((AUTHORIZATION, "authorization"), (INVALIDATION, "invalidation")):
        state["flows"][slug] = {
            "pk": new_uuid(),
            "policybindingmodel_ptr_id": new_uuid(),
            "slug": slug,
            "designation": designation,
        }
    outpost: Json = {
        "pk": new_uuid(),
        "name": "authentik Embedded Outpost",
        "type": "proxy",
        "providers": [],
        "service_connection": None,
        "config": {
            "log_level": "info",
            "authentik_host": "",
            "refresh_interval": "minutes=5",
            "docker_network": None,
        },
        "managed": EMBEDDED,
    }
    state["outposts"][outpost["pk"]] = outpost
    state["ready"] = True


def new_uuid() -> str:
    return str(uuid.uuid4())


def number(state: Json) -> int:
    state["next"] += 1
    return int(state["next"]) - 1


# -- people
def add_user(state: Json, username: str, password: str = "", kind: str = "internal") -> Json:
    if any(each["username"] == username for each in state["users"].values()):
        raise Invalid("username", "This field must be unique.")
    pk = number(state)
    user = {
        "pk": pk,
        "username": username,
        "password": password,
        "type": kind,
        "uuid": new_uuid(),
        "roles": [],
    }
    state["users"][str(pk)] = user
    return user


def add_group(state: Json, name: str, is_superuser: bool = False) -> Json:
    if any(each["name"] == name for each in state["groups"].values()):
        raise Invalid("name", "Group with this name already exists.")
    group = {
        "pk": new_uuid(),
        "num_pk": number(state),
        "name": name,
        "is_superuser": is_superuser,
        "users": [],
    }
    state["groups"][group["pk"]] = group
    return group


def add_token(state: Json, identifier: str, user: int, key: str, intent: str = "api") -> Json:
    if identifier in state["tokens"]:
        raise Invalid("identifier", "Token with this identifier already exists.")
    token = {"pk": new_uuid(), "identifier": identifier, "user": user, "key": key, "intent": intent}
    state["tokens"][identifier] = token
    return token


def groups_of(state: Json, user: int) -> list[Json]:
    return [each for each in state["groups"].values() if user in each["users"]]


def is_superuser(state: Json, user: int) -> bool:
    return any(each["is_superuser"] for each in groups_of(state, user))


def permissions_of(state: Json, user: int) -> set[str]:
    roles = state["users"][str(user)]["roles"]
    return {name for role in roles for name in state["roles"][role]["permissions"]}


def has_access(state: Json, application: Json, user: int) -> bool:
    """An application without bindings is open to every user. Superusers are judged like all others."""
    mine = {each["pk"] for each in groups_of(state, user)}
    bindings = [
        each for each in state["bindings"].values() if each["target"] == application["pk"] and each["enabled"]
    ]
    if not bindings:
        return True
    passed = [(each["group"] in mine or each["user"] == user) != each["negate"] for each in bindings]
    return any(passed) if application["policy_engine_mode"] == "any" else all(passed)


# -- providers, applications, bindings, outposts
def application_of(state: Json, provider: int) -> Json | None:
    return next((each for each in state["applications"].values() if each["provider"] == provider), None)


def check_provider(state: Json, body: Json, provider: Json | None) -> None:
    if provider is None:
        for required in ("name", "authorization_flow", "invalidation_flow", "external_host"):
            if not body.get(required):
                raise Invalid(required, "This field is required.")
    # Seen: without `mode`, also a PATCH is judged as one of mode proxy.
    mode = body.get("mode", "proxy")
    if mode not in ("proxy", "forward_single", "forward_domain"):
        raise Invalid("mode", f'"{mode}" is not a valid choice.')
    if mode == "proxy" and not body.get("internal_host"):
        raise Invalid("internal_host", "Internal host cannot be empty when forward auth is disabled.")
    flows = {each["pk"] for each in state["flows"].values()}
    for name in ("authorization_flow", "invalidation_flow"):
        if name in body and body[name] not in flows:
            raise Invalid(name, f'Invalid pk "{body[name]}" - object does not exist.')
    names = {
        each["name"]
        for each in [*state["providers"].values(), *state["other_providers"].values()]
        if each is not provider
    }
    if body.get("name") in names:
        raise Invalid("name", "provider with this name already exists.")


def check_application(state: Json, body: Json, application: Json | None) -> None:
    slug = str(body.get("slug") or (application or {}).get("slug", ""))
    if application is None:
        for required in ("name", "slug"):
            if not body.get(required):
                raise Invalid(required, "This field is required.")
    if not all(each.isascii() and (each.isalnum() or each in "-_") for each in slug):
        raise Invalid("slug", "Enter a valid “slug” consisting of letters, numbers, underscores or hyphens.")
    if slug in state["applications"] and state["applications"][slug] is not application:
        raise Invalid("slug", "Application with this slug already exists.")
    provider = body.get("provider")
    if provider is None:
        return
    if str(provider) not in state["providers"] and str(provider) not in state["other_providers"]:
        raise Invalid("provider", f'Invalid pk "{provider}" - object does not exist.')
    owner = application_of(state, provider)
    if owner is not None and owner is not application:
        raise Invalid("provider", "Application with this provider already exists.")


def check_binding(state: Json, body: Json) -> None:
    for required in ("target", "order"):
        if body.get(required) is None:
            raise Invalid(required, "This field is required.")
    if not any(each["pk"] == body["target"] for each in state["applications"].values()):
        raise Invalid("target", f'Invalid pk "{body["target"]}" - object does not exist.')
    subjects = [name for name in ("policy", "group", "user") if body.get(name) is not None]
    if len(subjects) != 1:
        raise Invalid(
            "non_field_errors",
            "Only one of 'policy', 'group', 'user' can be set."
            if subjects
            else "One of 'policy', 'group', 'user' must be set.",
        )
    if subjects == ["group"] and body["group"] not in state["groups"]:
        raise Invalid("group", f'Invalid pk "{body["group"]}" - object does not exist.')
    same = {"policy": body.get("policy"), "target": body["target"], "order": body["order"]}
    if same["policy"] and any(
        {name: each[name] for name in same} == same for each in state["bindings"].values()
    ):
        raise Invalid("non_field_errors", "The fields policy, target, order must make a unique set.")


def check_outpost(state: Json, body: Json, outpost: Json) -> None:
    if outpost["managed"] == EMBEDDED and body.get("name", outpost["name"]) != outpost["name"]:
        raise Invalid("name", "Embedded outpost's name cannot be changed.")
    if not isinstance(body.get("config", {}), dict):
        raise Invalid("config", "Value must be valid JSON object.")
    for pk in body.get("providers", ()):
        if not isinstance(pk, int) or str(pk) not in state["providers"]:
            raise Invalid("providers", f'Invalid pk "{pk}" - object does not exist.')
    if not body.get("providers", [0]) and outpost["managed"] != EMBEDDED:
        raise Invalid("providers", "This list may not be empty.")
