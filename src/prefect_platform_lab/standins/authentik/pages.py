"""The stand-in's data plane: the embedded outpost for Traefik, and the login pages.

The journey is Authentik's: outpost 302 → authorize on the sign-on's host → login form → back to the outpost's callback on the
application's host → the page that was wanted. Logging out ends the outpost's session; the sign-on's own goes on until it is ended there.
"""

from __future__ import annotations

import ipaddress
import secrets
from html import escape
from urllib.parse import parse_qsl, quote, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response

from . import state
from .shown import host_of
from .state import Json
from .store import Store

PROXY_COOKIE, SSO_COOKIE = "authentik_proxy", "authentik_session"
CALLBACK = "/outpost.goauthentik.io/callback"
LOGIN = "/if/flow/default-authentication-flow/"
END = "/flows/-/default/invalidation/"
PRIVATE_RANGES = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fe80::/10,::1/128"


class Pages:
    """`trusted`: the peers whose X-Forwarded-… headers count, as AUTHENTIK_LISTEN__TRUSTED_PROXY_CIDRS says."""

    def __init__(self, store: Store, trusted: str = PRIVATE_RANGES) -> None:
        self.store = store
        self._trusted = [ipaddress.ip_network(each.strip()) for each in trusted.split(",")]

    # -- the outpost
    async def auth(self, request: Request) -> Response:
        """The answer to Traefik's ForwardAuth: 200 with the identity, or a redirect to the login."""
        async with self.store.open() as now:
            host, proto = self._asked_for(request)
            if not proto or not host:
                return PlainTextResponse("no X-Forwarded-Host or X-Forwarded-Proto", 500)
            provider = _provider_of(now, host)
            if provider is None:
                return PlainTextResponse(f"no app for hostname {host}", 400)
            session = request.cookies.get(PROXY_COOKIE, "")
            if now["switches"].get("blank_identity") and session:
                return Response()  # CVE-2026-25748: yes, and nobody
            user = _user(now, session, f"proxy:{provider['pk']}")
            if user is not None:
                return Response(headers=_identity(now, user, provider))
            wanted = f"{proto.replace('ws', 'http')}://{host}{request.headers.get('x-forwarded-uri', '/')}"
            return _to_authorize(now, provider, wanted)

    async def callback(self, request: Request) -> Response:
        """Back from the login: a session on the application's host."""
        async with self.store.open() as now:
            host, _ = self._asked_for(request)
            provider = _provider_of(now, host)
            code = now["sessions"].pop(f"code:{request.query_params.get('code', '')}", None)
            started = now["sessions"].pop(f"state:{request.query_params.get('state', '')}", None)
            if provider is None or not code or not started or code["provider"] != provider["pk"]:
                return PlainTextResponse("no such login", 400)
            session = _open(now, f"proxy:{provider['pk']}", code["user"])
            answer = RedirectResponse(started["url"], 302)
            answer.set_cookie(
                PROXY_COOKIE,
                session,
                httponly=True,
                samesite="lax",
                secure=started["url"].startswith("https"),
            )
            return answer

    async def sign_out(self, request: Request) -> Response:
        """Ends all of the user's sessions on this outpost, and goes on to the sign-on."""
        async with self.store.open() as now:
            mine = now["sessions"].get(request.cookies.get(PROXY_COOKIE, ""))
            if mine:
                now["sessions"] = {
                    key: each
                    for key, each in now["sessions"].items()
                    if not (str(each.get("for", "")).startswith("proxy:") and each["user"] == mine["user"])
                }
            return RedirectResponse(f"{_sso(now)}/if/session-end/", 302)

    async def ping(self, request: Request) -> Response:
        return Response(status_code=204)

    # -- the sign-on's own host
    async def authorize(self, request: Request) -> Response:
        async with self.store.open() as now:
            asked = request.query_params
            provider = next(
                (each for each in now["providers"].values() if each["client_id"] == asked.get("client_id")),
                None,
            )
            if (
                provider is None
                or asked.get("redirect_uri", "").split("?")[0] != f"{provider['external_host']}{CALLBACK}"
            ):
                return _page(
                    "Redirect URI Error",
                    "The request has a redirect URI that the provider does not allow.",
                    400,
                )
            user = _user(now, request.cookies.get(SSO_COOKIE, ""), "sso")
            if user is None:
                return RedirectResponse(
                    f"{LOGIN}?{urlencode({'next': f'{request.url.path}?{request.url.query}'})}", 302
                )
            application = state.application_of(now, provider["pk"])
            if application is None or not state.has_access(now, application, user):
                return _page("Permission denied", "Request has been denied.", 403)
            code = secrets.token_urlsafe(16)
            now["sessions"][f"code:{code}"] = {"user": user, "provider": provider["pk"]}
            back = {"code": code, "state": asked.get("state", "")}
            return RedirectResponse(f"{asked['redirect_uri']}&{urlencode(back)}", 302)

    async def login(self, request: Request) -> Response:
        """A form; then the session of the sign-on."""
        wanted = request.query_params.get("next", "/")
        wanted = wanted if wanted.startswith("/") and not wanted.startswith("//") else "/"
        if request.method == "GET":
            return _form(wanted, "")
        fields = dict(parse_qsl((await request.body()).decode()))
        async with self.store.open() as now:
            for user in now["users"].values():
                right = secrets.compare_digest(user["password"].encode(), fields.get("password", "").encode())
                if user["username"] == fields.get("username") and user["password"] and right:
                    answer = RedirectResponse(wanted, 302)
                    session = _open(now, "sso", user["pk"])
                    answer.set_cookie(SSO_COOKIE, session, httponly=True, samesite="lax")
                    return answer
        return _form(wanted, "Invalid password")

    async def session_end(self, request: Request) -> Response:
        return _page("You've logged out", f'You can go back, or <a href="{END}">log out of authentik</a>.')

    async def end(self, request: Request) -> Response:
        """Logged out of the sign-on: its login form."""
        async with self.store.open() as now:
            now["sessions"].pop(request.cookies.get(SSO_COOKIE, ""), None)
        return RedirectResponse(LOGIN, 302)

    async def ready(self, request: Request) -> Response:
        async with self.store.open():
            return Response()

    async def control(self, request: Request) -> Response:
        """For tests: more people, a fault to have, sessions that end; answers whether the bootstrap token is still there."""
        wanted = await request.json()
        async with self.store.open() as now:
            now["switches"] |= wanted.get("switches", {})
            for name, person in wanted.get("users", {}).items():
                user = state.add_user(now, name, person["password"])
                for group in now["groups"].values():
                    group["users"] += [user["pk"]] if group["name"] in person["groups"] else []
            if wanted.get("end_sessions"):
                now["sessions"] = {
                    key: each
                    for key, each in now["sessions"].items()
                    if not str(each.get("for", "")).startswith("proxy:")
                }
            return JSONResponse({"bootstrap": state.BOOTSTRAP_TOKEN in now["tokens"], "ready": now["ready"]})

    async def echo(self, request: Request) -> Response:
        """For tests: the headers that a protected service receives."""
        return JSONResponse(dict(request.headers))

    def _asked_for(self, request: Request) -> tuple[str, str]:
        """Host and scheme; of whom it does not trust, only what the connection itself says."""
        peer = ipaddress.ip_address(request.client.host if request.client else "::")
        if not any(peer in network for network in self._trusted):
            return request.headers.get("host", "").lower(), "http"
        headers = request.headers
        return headers.get("x-forwarded-host", headers.get("host", "")).lower(), headers.get(
            "x-forwarded-proto", ""
        )


def _provider_of(now: Json, host: str) -> Json | None:
    """Served are the providers of the embedded outpost that have an application."""
    served = {
        pk
        for each in now["outposts"].values()
        if each["managed"] == state.EMBEDDED
        for pk in each["providers"]
    }
    for provider in now["providers"].values():
        if provider["pk"] in served and host_of(provider["external_host"]) == host:
            return provider if state.application_of(now, provider["pk"]) else None
    return None


def _sso(now: Json) -> str:
    embedded = next(each for each in now["outposts"].values() if each["managed"] == state.EMBEDDED)
    return str(embedded["config"].get("authentik_host") or "http://0.0.0.0:9000").rstrip("/")


def _to_authorize(now: Json, provider: Json, wanted: str) -> Response:
    flow = secrets.token_urlsafe(16)
    now["sessions"][f"state:{flow}"] = {"url": wanted}
    query = {
        "client_id": provider["client_id"],
        "redirect_uri": f"{provider['external_host']}{CALLBACK}?X-authentik-auth-callback=true",
        "response_type": "code",
        "scope": "openid profile email ak_proxy",
        "state": flow,
    }
    return RedirectResponse(f"{_sso(now)}/application/o/authorize/?{urlencode(query, quote_via=quote)}", 302)


def _identity(now: Json, user: int, provider: Json) -> dict[str, str]:
    one, application = now["users"][str(user)], state.application_of(now, provider["pk"])
    groups = "|".join(each["name"] for each in state.groups_of(now, user))
    plain = {
        "X-authentik-username": one["username"],
        "X-authentik-groups": groups,
        "X-authentik-entitlements": "",
        "X-authentik-email": "",
        "X-authentik-name": one["username"],
        "X-authentik-uid": one["uuid"],
        "X-authentik-meta-outpost": "authentik Embedded Outpost",
        "X-authentik-meta-provider": provider["name"],
        "X-authentik-meta-app": application["slug"] if application else "",
    }
    # Header bytes are UTF-8; the server library would write Latin-1.
    return {name: value.encode().decode("latin-1") for name, value in plain.items()}


def _open(now: Json, purpose: str, user: int) -> str:
    session = secrets.token_urlsafe(24)
    now["sessions"][session] = {"for": purpose, "user": user}
    return session


def _user(now: Json, session: str, purpose: str) -> int | None:
    found = now["sessions"].get(session) if session else None
    return int(found["user"]) if found and found.get("for") == purpose else None


def _form(wanted: str, error: str) -> Response:
    return _page(
        "Log in",
        f"<p>{escape(error)}</p>"
        f'<form method="post" action="{LOGIN}?{escape(urlencode({"next": wanted}))}">'
        '<input name="username" autocomplete="username"><input name="password" type="password">'
        "<button>Log in</button></form>",
    )


def _page(title: str, body: str, status: int = 200) -> Response:
    """`body` is HTML."""
    return HTMLResponse(
        f"<!doctype html><title>{escape(title)}</title><h1>{escape(title)}</h1><div>{body}</div>", status
    )
