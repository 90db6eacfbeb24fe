"""Making, checking and deleting objects, with what that does to others."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable

from starlette.responses import Response

from . import shown, state
from .kinds import Kind
from .state import Invalid, Json


def delete(now: Json, kind: Kind, found: Json) -> Response:
    rows = now[kind.table]
    del rows[next(key for key, each in rows.items() if each is found)]
    if kind.table == "applications":
        now["bindings"] = {
            key: each for key, each in now["bindings"].items() if each["target"] != found["pk"]
        }
    if kind.table == "providers":
        for each in _all(now, "applications"):
            each["provider"] = None if each["provider"] == found["pk"] else each["provider"]
        for each in _all(now, "outposts"):
            each["providers"] = [pk for pk in each["providers"] if pk != found["pk"]]
    return Response(status_code=204)


def _all(now: Json, table: str) -> Iterable[Json]:
    rows: Iterable[Json] = now[table].values()
    return rows


def new_provider(now: Json, body: Json) -> Json:
    state.check_provider(now, body, None)
    made = {
        **shown.PROVIDER,
        **{name: body[name] for name in shown.PROVIDER if name in body},
        "pk": state.number(now),
    }
    made["client_id"] = secrets.token_urlsafe(30)
    now["providers"][str(made["pk"])] = made
    return made


def new_application(now: Json, body: Json) -> Json:
    state.check_application(now, body, None)
    made = {
        **shown.APPLICATION,
        **{name: body[name] for name in shown.APPLICATION if name in body},
        "pk": state.new_uuid(),
    }
    now["applications"][made["slug"]] = made
    return made


def new_binding(now: Json, body: Json) -> Json:
    state.check_binding(now, body)
    made = {
        **shown.BINDING,
        **{name: body[name] for name in shown.BINDING if name in body},
        "pk": state.new_uuid(),
    }
    now["bindings"][made["pk"]] = made
    return made


def new_group(now: Json, body: Json) -> Json:
    if not body.get("name"):
        raise Invalid("name", "This field is required.")
    made = state.add_group(now, body["name"], bool(body.get("is_superuser")))
    made["users"] += body.get("users", [])
    return made


def new_token(now: Json, body: Json) -> Json:
    return state.add_token(
        now, body["identifier"], body["user"], secrets.token_urlsafe(32), body.get("intent", "api")
    )


def new_role(now: Json, body: Json) -> Json:
    if any(each["name"] == body["name"] for each in _all(now, "roles")):
        raise Invalid("name", "role with this name already exists.")
    made = {"pk": state.new_uuid(), "name": body["name"], "permissions": []}
    now["roles"][made["pk"]] = made
    return made


MAKERS: dict[str, Callable[[Json, Json], Json]] = {
    "providers": new_provider,
    "applications": new_application,
    "bindings": new_binding,
    "groups": new_group,
    "tokens": new_token,
    "roles": new_role,
}
CHECKS: dict[str, Callable[[Json, Json, Json], None]] = {
    "providers": state.check_provider,
    "applications": state.check_application,
    "bindings": lambda now, body, found: state.check_binding(now, {"order": found["order"], **body}),
    "outposts": state.check_outpost,
}
