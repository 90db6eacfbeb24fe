"""The REST API of the stand-in below /api/v3, with the semantics that callers stumble over."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from . import objects, shown, state
from .kinds import KINDS, Kind
from .state import Invalid, Json
from .store import Store

NOBODY = "Authentication credentials were not provided."
WRONG = "Token invalid/expired"
FORBIDDEN = "You do not have permission to perform this action."


_VERBS = {"GET": "view", "POST": "add", "PATCH": "change", "DELETE": "delete"}


class Api:
    """`log` holds (method, path, body) of every request; `fail` may answer in the place of one."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.log: list[tuple[str, str, Any]] = []
        self.fail: Callable[[str, str], Response | None] = lambda method, path: None

    @property
    def writes(self) -> list[tuple[str, str, Any]]:
        return [each for each in self.log if each[0] != "GET"]

    async def __call__(self, request: Request) -> Response:
        path = request.path_params["path"]
        text = await request.body()
        async with self.store.open() as now:
            body = json.loads(text) if text else None
            self.log.append((request.method, path, body))
            if not path.endswith("/"):
                return JSONResponse({"detail": "Not found."}, 404)
            if (instead := self.fail(request.method, path)) is not None:
                return instead
            caller = _caller(now, request)
            if isinstance(caller, Response):
                return caller
            try:
                return self._answer(now, request, path.rstrip("/"), body or {}, caller)
            except Invalid as wrong:
                return JSONResponse(wrong.body, 400)

    def _answer(self, now: Json, request: Request, path: str, body: Json, caller: int) -> Response:
        method = request.method
        if path == "core/users/me":
            me = shown.me(now, now["users"][str(caller)])
            return JSONResponse({"user": me, "users": [], "original": None})
        if path == "admin/version":
            return JSONResponse(shown.VERSION)
        collection, _, rest = next(
            (
                (name, *path[len(name) :].partition("/")[1:])
                for name in KINDS
                if path == name or path.startswith(f"{name}/")
            ),
            ("", "", ""),
        )
        if not collection:
            return self._special(now, path, body, caller)
        kind = KINDS[collection]
        if rest.count("/"):
            return self._special(now, path, body, caller)
        if collection == "core/users" and rest == "service_account":
            return self._service_account(now, body, caller)
        if not _may(now, caller, method, kind):
            return JSONResponse({"detail": FORBIDDEN}, 403)
        if not rest:
            return (
                self._list(now, request, kind, caller) if method == "GET" else self._create(now, kind, body)
            )
        found = _find(now, kind, rest)
        if found is None:
            return JSONResponse({"detail": f"No {kind.title} matches the given query."}, 404)
        if method == "GET":
            return JSONResponse(kind.show(now, found))
        return (
            objects.delete(now, kind, found) if method == "DELETE" else self._change(now, kind, found, body)
        )

    def _list(self, now: Json, request: Request, kind: Kind, caller: int) -> Response:
        wanted, rows = request.query_params, list(now[kind.table].values())
        for name, value in wanted.items():
            if test := kind.filters.get(name):
                rows = [each for each in rows if test(each, value)]
        full = wanted.get("superuser_full_list") == "true" and state.is_superuser(now, caller)
        if kind.table == "applications" and not full:
            # What the caller may use, superuser or not.
            rows = [each for each in rows if state.has_access(now, each, caller)]
        size = min(int(wanted.get("page_size", 20)), 100)
        page, pages = int(wanted.get("page", 1)), max(1, -(-len(rows) // size))
        if not 1 <= page <= pages:
            return JSONResponse({"detail": "Invalid page."}, 404)
        part = rows[(page - 1) * size : page * size]
        about = {
            "next": page + 1 if page < pages else 0,
            "previous": page - 1,
            "count": len(rows),
            "current": page,
            "total_pages": pages,
            "start_index": (page - 1) * size + 1 if part else 0,
            "end_index": (page - 1) * size + len(part),
        }
        results = [kind.show(now, each) for each in part]
        return JSONResponse({"pagination": about, "autocomplete": {}, "results": results})

    def _create(self, now: Json, kind: Kind, body: Json) -> Response:
        made = objects.MAKERS[kind.table](now, body)
        return JSONResponse(kind.show(now, made), 201)

    def _change(self, now: Json, kind: Kind, found: Json, body: Json) -> Response:
        if kind.table == "bindings" and "target" not in body:
            return Response(status_code=500)
        objects.CHECKS[kind.table](now, body, found)
        known = {name: value for name, value in body.items() if name in found and name != "pk"}
        if kind.table == "applications" and "slug" in known:
            now["applications"][known["slug"]] = now["applications"].pop(found["slug"])
        found |= known
        return JSONResponse(kind.show(now, found))

    def _special(self, now: Json, path: str, body: Json, caller: int) -> Response:
        """What superusers do, and the outposts' health."""
        match path.split("/"):
            case ["outposts", "instances", _, "health"] if _may(
                now, caller, "GET", KINDS["outposts/instances"]
            ):
                return JSONResponse([shown.health()])
            case _ if not state.is_superuser(now, caller):
                return JSONResponse({"detail": FORBIDDEN}, 403)
            case ["core", "groups", pk, "add_user"]:
                users = now["groups"][pk]["users"]
                users += [body["pk"]] if body["pk"] not in users else []
                return Response(status_code=204)
            case ["core", "tokens", identifier, "set_key"]:
                now["tokens"][identifier]["key"] = body["key"]
                return Response(status_code=204)
            case ["core", "tokens", identifier, "view_key"]:
                return JSONResponse({"key": now["tokens"][identifier]["key"]})
            case ["rbac", "permissions", "assigned_by_roles", role, "assign"]:
                held = now["roles"][role]["permissions"]
                held += [each for each in body["permissions"] if each not in held]
                return JSONResponse([{"id": "1"}])
            case ["rbac", "roles", role, "add_user"]:
                roles = now["users"][str(body["pk"])]["roles"]
                roles += [role] if role not in roles else []
                return Response(status_code=204)
        return JSONResponse({"detail": "Not found."}, 404)

    def _service_account(self, now: Json, body: Json, caller: int) -> Response:
        if not state.is_superuser(now, caller):
            return JSONResponse({"detail": FORBIDDEN}, 403)
        user = state.add_user(now, body["name"], kind="service_account")
        identifier = f"service-account-{body['name']}-password"
        token = state.add_token(now, identifier, user["pk"], secrets.token_urlsafe(32), "app_password")
        return JSONResponse(
            {
                "username": user["username"],
                "token": token["key"],
                "user_uid": user["uuid"],
                "user_pk": user["pk"],
            }
        )


def _caller(now: Json, request: Request) -> int | Response:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return JSONResponse({"detail": NOBODY}, 403)
    for token in now["tokens"].values():
        if token["intent"] == "api" and secrets.compare_digest(token["key"].encode(), given.encode()):
            return int(token["user"])
    return JSONResponse({"detail": WRONG}, 403)


def _may(now: Json, caller: int, method: str, kind: Kind) -> bool:
    app, _, model = kind.model.partition(".")
    wanted = f"{app}.{_VERBS[method]}_{model}"
    return state.is_superuser(now, caller) or wanted in state.permissions_of(now, caller)


def _find(now: Json, kind: Kind, key: str) -> Json | None:
    return next((each for each in now[kind.table].values() if str(each[kind.by]) == key), None)
