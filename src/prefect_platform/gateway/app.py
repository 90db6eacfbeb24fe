"""The routes: /verify for Traefik's ForwardAuth, /auth for people, /health."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from prefect_platform.gateway import answers, cookies, door, ending, pages, reading, sso
from prefect_platform.gateway.database import parse
from prefect_platform.gateway.errors import GatewayError, Refused, StoreUnavailable
from prefect_platform.gateway.refusals import Refusals
from prefect_platform.gateway.registry import Registry
from prefect_platform.gateway.settings import SESSION_SECONDS, Settings
from prefect_platform.gateway.store import Store
from prefect_platform.gateway.tokens import Kind, grant, hash_code, mint
from prefect_platform.gateway.verifier import Identity, Verifier

log = logging.getLogger("gateway")


@dataclass(frozen=True)
class Gateway:
    settings: Settings
    store: Store
    registry: Registry
    verifier: Verifier

    async def verify_token(self, request: Request) -> Response:
        """Authentication for machines: Authorization: Bearer and nothing else."""
        try:
            token = door.bearer_token(request.headers)
            if token is None:
                raise Refused
            identity = await self.verifier.identify(token, Kind.TOKEN)
        except (Refused, StoreUnavailable) as refusal:
            return answers.refusal(refusal, "")
        return self._admission(request, identity, readable=False)

    async def verify_browser(self, request: Request) -> Response:
        """The door for browsers: a session cookie; but an Authorization header, if there is one, is judged
        alone.
        """
        readable = door.is_navigation(request.headers)
        try:
            if (token := door.bearer_token(request.headers)) is not None:
                return self._admission(request, await self.verifier.identify(token, Kind.TOKEN), readable)
            cookie = door.session_token(request.headers, self.settings.cookie_name)
            if cookie is None:
                raise Refused
            identity = await self.verifier.identify(cookie, Kind.SESSION)
        except (Refused, StoreUnavailable) as refusal:
            return self._ask_to_log_in(request, refusal) if readable else answers.refusal(refusal, "")
        if not door.may_use_cookie(request.headers, self.settings.public_url):
            return answers.forbidden("This request comes from another site.", readable)
        return self._admission(request, identity, readable)

    async def verify_sso(self, request: Request) -> Response:
        """The door for people behind the single sign-on, which Traefik has asked already: is there an identity,
        and may this person come in?
        """
        readable, policy = door.is_navigation(request.headers), self.settings.sso
        try:
            person = sso.person(request.headers)
        except Refused:
            log.error("single sign-on passed a request without a user: refused")
            return answers.no_identity(readable)
        if not person.may_use(policy, request.path_params["scope"]):
            return answers.not_a_member(person.name, readable)
        if not door.may_use_cookie(request.headers, self.settings.public_url):
            return answers.forbidden("This request comes from another site.", readable)
        return Response(headers={**person.headers(policy), **cookies.for_a_service(request.headers)})

    async def without_our_cookies(self, request: Request) -> Response:
        """Lets anyone in, and takes our cookies off the request: before routes without authentication, and before Authentik."""
        sign_on = request.path_params["scope"] == "authentik"
        return Response(headers=cookies.for_a_service(request.headers, sign_on))

    async def expired(self, request: Request) -> Response:
        """What a script of a page gets instead of a redirect to the login, which it could not follow: browsers
        do not let it read another site's answer. Traefik makes it a 401.
        """
        body = {"error": "unauthorized", "hint": "You are signed out. Reload the page to sign in again."}
        return JSONResponse(body, 401, pages.PRIVATE)

    async def login(self, request: Request) -> Response:
        """One-time code -> session cookie. Only a GET that a person asked for may use the code up."""
        if request.method == "HEAD":
            return Response(headers=pages.PRIVATE)
        if door.is_speculative(request.headers):
            return Response(status_code=503, headers=pages.PRIVATE)
        code = request.query_params.get("code", "")
        try:
            scope = await self.store.redeem_login_code(hash_code(code), int(time.time()))
            if scope is None:
                if await self._has_session(request):
                    return RedirectResponse(self._wanted_page(request), 303, pages.PRIVATE)
                return answers.no_such_link(self.settings.issuer)
            session = grant(Kind.SESSION, "platform", "browser", scope, SESSION_SECONDS)
            await self.store.add(session, "browser session")
        except GatewayError:
            return answers.store_page("You are not logged in. Try again with a new link.")
        log.info("login: session %s opened", session.jti)
        response = RedirectResponse(self._wanted_page(request), 303, pages.PRIVATE)
        self._set_cookie(response, mint(self.settings, session), SESSION_SECONDS)
        if cookies.read(request.headers, self.settings.return_cookie):
            cookies.forget_page(response, self.settings)
        return response

    async def ask_to_log_out(self, request: Request) -> Response:
        """A page with a button: a request that any link or image can make ends no session."""
        return pages.ask_to_log_out()

    async def ask_to_sign_out(self, request: Request) -> Response:
        """The same for single sign-on, on any host: Traefik lets only a link on a page of that host through to Authentik."""
        return pages.page(200, "Sign out", (pages.SIGN_OUT,))

    async def logout(self, request: Request) -> Response:
        """Revokes the session and clears the cookie. With single sign-on (`/sso`), Authentik's session is next."""
        if not door.is_sent_by_our_page(request.headers, self.settings.public_url):
            return answers.forbidden("To log out, open /auth/logout and use its button.", readable=True)
        response = await self._end_session(request)
        if response.status_code == 200 and request.url.path.endswith("/sso"):
            response = pages.sign_out()
        self._set_cookie(response, "", 0)
        return response

    async def ending(self, request: Request) -> Response:
        """Which tokens in use end soon. Traefik asks nobody before: the token is judged here."""
        now = int(time.time())
        try:
            token = door.bearer_token(request.headers)
            if token is None:
                raise Refused
            if ending.SCOPE not in (await self.verifier.identify(token, Kind.TOKEN)).scopes:
                return answers.forbidden("", False)
            found = await self.store.ending(now, ending.SOON_SECONDS, ending.USED_SECONDS)
        except (Refused, StoreUnavailable) as refusal:
            return answers.refusal(refusal, "")
        return ending.answer(found, now)

    async def health(self, request: Request) -> Response:
        age = self.registry.age_seconds
        limit = self.settings.max_stale_seconds
        status = "closed" if age is None or age > limit else "degraded" if age > 5 else "ok"
        rounded = None if age is None else round(age, 1)
        body = {"status": status, "revocations_age_seconds": rounded}
        return JSONResponse(body, 503 if status == "closed" else 200, pages.PRIVATE)

    async def _end_session(self, request: Request) -> Response:
        try:
            cookie = door.session_token(request.headers, self.settings.cookie_name)
            if cookie is not None:
                identity = await self.verifier.identify(cookie, Kind.SESSION)
                await self.store.revoke(identity.jti, int(time.time()))
                await self.registry.forget(identity.jti)
        except Refused:
            pass  # not one of our sessions, or one that has ended: nothing to revoke
        except GatewayError:
            return answers.store_page(
                "You are signed out in this browser, but the session could not be ended on the server."
            )
        return pages.page(200, "You are logged out", pages.how_to_log_in(self.settings.issuer))

    def _admission(self, request: Request, identity: Identity, readable: bool) -> Response:
        scope = request.path_params["scope"]
        if scope in identity.scopes:
            return answers.admitted(request, identity)
        if scope != reading.WHOLE or reading.SCOPE not in identity.scopes:
            return answers.forbidden("Your credential does not cover this service.", readable)
        if reading.only_reads(request.headers, self.settings.home_path):
            return answers.admitted(request, identity)
        return answers.forbidden(
            "Your credential may only read.", readable, "a token of scope prefect:read may only read"
        )

    async def _has_session(self, request: Request) -> bool:
        try:
            cookie = door.session_token(request.headers, self.settings.cookie_name)
            if cookie is None:
                return False
            await self.verifier.identify(cookie, Kind.SESSION)
        except Refused:
            return False
        return True

    def _ask_to_log_in(self, request: Request, refusal: Refused | StoreUnavailable) -> Response:
        """The page that was asked for is kept, for the login to lead there."""
        response = answers.refusal(refusal, self.settings.issuer)
        cookies.keep_page(response, self.settings, request.headers.get("x-forwarded-uri", ""))
        return response

    def _wanted_page(self, request: Request) -> str:
        kept = cookies.read(request.headers, self.settings.return_cookie)
        return cookies.page_after_login(kept, self.settings.home_path)

    def _set_cookie(self, response: Response, value: str, seconds: int) -> None:
        response.set_cookie(
            self.settings.cookie_name,
            value,
            max_age=seconds,
            path="/",
            secure=self.settings.secure,
            httponly=True,
            samesite="lax",
        )


def create_app(settings: Settings) -> Starlette:
    store = Store(parse(settings.database_url))
    registry = Registry(store, settings.max_stale_seconds)
    gateway = Gateway(settings, store, registry, Verifier(settings, registry))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await registry.refresh()
        polling = asyncio.create_task(registry.run())
        polling.add_done_callback(_stop_if_broken)
        try:
            yield
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
            await registry.flush()
            await store.close()

    routes = [
        Route("/verify/{scope}", gateway.verify_token, methods=["GET"]),
        Route("/verify/{scope}/browser", gateway.verify_browser, methods=["GET"]),
        Route("/verify/{scope}/sso", gateway.verify_sso, methods=["GET"]),
        Route("/verify/{scope}/cookies", gateway.without_our_cookies, methods=["GET"]),
        Route("/sso/expired", gateway.expired, methods=["GET"]),
        Route("/auth/login", gateway.login, methods=["GET"]),
        Route("/auth/tokens", gateway.ending, methods=["GET"]),
        Route("/auth/sign-out", gateway.ask_to_sign_out),
        *(
            Route(path, endpoint, methods=[method])
            for path in ("/auth/logout", "/auth/logout/sso")
            for method, endpoint in (("GET", gateway.ask_to_log_out), ("POST", gateway.logout))
        ),
        Route("/health", gateway.health, methods=["GET"]),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, middleware=[Middleware(Refusals)])
    app.router.redirect_slashes = False
    return app


def _stop_if_broken(polling: asyncio.Task[None]) -> None:
    """Without polling, revocations would go unseen: a bug there must end in a restart, not in a verifier that
    looks well.
    """
    if not polling.cancelled() and (error := polling.exception()) is not None:
        log.critical("polling the token database failed; stopping", exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)
