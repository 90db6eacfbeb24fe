"""Better Stack's monitors for tests, as its API answers: pages, attributes, headers with ids. Not part of any deployment."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TOKEN = "the-better-stack-token"  # noqa: S105 - for tests
PAGE = 2
TYPES = ("status", "expected_status_code", "keyword", "keyword_absence", "ping", "tcp")


class Standin:
    """`monitors`: id → attributes; `writes`: what was asked to change."""

    def __init__(self) -> None:
        self.monitors: dict[str, dict[str, Any]] = {}
        self.writes: list[tuple[str, dict[str, Any]]] = []
        self.app = Starlette(
            routes=[
                Route("/api/v2/monitors", self.many, methods=["GET", "POST"]),
                Route("/api/v2/monitors/{id}", self.one, methods=["PATCH"]),
            ]
        )

    async def many(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        if request.method == "GET":
            page, there = int(request.query_params.get("page", 1)), list(self.monitors)
            shown = there[(page - 1) * PAGE : page * PAGE]
            more = str(request.url) if page * PAGE < len(there) else None
            return JSONResponse({"data": [self._shown(each) for each in shown], "pagination": {"next": more}})
        body = await request.json()
        if not body.get("url") or body.get("monitor_type") not in TYPES:
            return JSONResponse({"errors": {"base": ["url and monitor_type are required"]}}, 422)
        name = str(len(self.monitors) + 1)
        self.monitors[name] = {}
        self._change(name, body)
        self.writes.append(("POST", body))
        return JSONResponse({"data": self._shown(name)}, 201)

    async def one(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        name, body = request.path_params["id"], await request.json()
        if name not in self.monitors:
            return JSONResponse({"errors": "Resource not found"}, 404)
        self._change(name, body)
        self.writes.append(("PATCH", body))
        return JSONResponse({"data": self._shown(name)})

    def _change(self, name: str, body: dict[str, Any]) -> None:
        there = self.monitors[name]
        held = {each["id"]: each for each in there.get("request_headers", ())}
        for each in body.pop("request_headers", ()):
            key = each.get("id") or str(len(held) + 100)
            held.pop(key, None) if each.get("_destroy") else held.update({key: {"id": key, **each}})
        there |= {**body, "request_headers": list(held.values())}

    def _shown(self, name: str) -> dict[str, Any]:
        return {"id": name, "type": "monitor", "attributes": self.monitors[name]}

    def _refused(self, request: Request) -> Response | None:
        if request.headers.get("authorization") == f"Bearer {TOKEN}":
            return None
        return JSONResponse({"errors": "Invalid Team API token."}, 401)
