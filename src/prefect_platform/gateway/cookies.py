"""Our cookies: their names, a request's other cookies, and the page that a login leads to. Pure but for the response that is given."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from starlette.datastructures import Headers
from starlette.responses import Response

if TYPE_CHECKING:
    from prefect_platform.gateway.settings import Settings

RETURN_SECONDS = 900
RETURN_PATH = "/auth/login"
MAX_RETURN = 2000
# Of any platform: browsers share cookies among all ports of a host.
_PLATFORMS = re.compile(r"(__Host-|__Secure-)?platform_(session|return)(_[0-9]+)?", re.IGNORECASE)
# Authentik's outpost names its cookies `authentik_proxy_<hash>` (2026.8).
_SIGN_ON = re.compile(r"authentik_proxy\w*", re.ASCII | re.IGNORECASE)
_BLANK = " \t"


def read(headers: Headers, name: str) -> list[str]:
    """The values of all cookies of that name."""
    pairs = [part.partition("=") for part in _parts(headers)]
    return [value for each, _, value in pairs if each.strip(_BLANK) == name]


def for_a_service(headers: Headers, sign_on: bool = False) -> dict[str, str]:
    """The Cookie header that the service behind may see: without ours, with which it could act in the caller's name; with those of
    the `sign_on` if it is that.

    Empty when none is left: Traefik then removes the header of the request.
    """
    kept = [part for part in _parts(headers) if not _is_ours(part.partition("=")[0].strip(_BLANK), sign_on)]
    return {"Cookie": "; ".join(kept)} if kept else {}


def _is_ours(name: str, sign_on: bool) -> bool:
    return bool(_PLATFORMS.fullmatch(name) or (not sign_on and _SIGN_ON.fullmatch(name)))


def _parts(headers: Headers) -> list[str]:
    lines = headers.getlist("cookie")
    return [part.strip(_BLANK) for line in lines for part in line.split(";") if part.strip(_BLANK)]


def keep_page(response: Response, settings: Settings, path: str) -> None:
    """For the next login to lead to this page; not for one that it would lead to anyway, or must not."""
    value = quote(path, safe="")
    if path != settings.home_path and page_after_login([value], settings.home_path) == path:
        _set(response, settings, value, RETURN_SECONDS)


def forget_page(response: Response, settings: Settings) -> None:
    _set(response, settings, "", 0)


def _set(response: Response, settings: Settings, value: str, seconds: int) -> None:
    response.set_cookie(
        settings.return_cookie,
        value,
        max_age=seconds,
        path=RETURN_PATH,
        secure=settings.secure,
        httponly=True,
        samesite="lax",
    )


def page_after_login(kept: list[str], home: str) -> str:
    """Where a login leads: the page that was kept, if it is one below `home`; else `home`."""
    path = unquote(kept[0]) if len(kept) == 1 else ""
    plain = path.isascii() and path.isprintable() and not set(path) & set(' \\"<>')
    # `//host` is another host to a browser.
    below = path.startswith(home) and not path.startswith("//") and len(path) <= MAX_RETURN
    return path if plain and below else home
