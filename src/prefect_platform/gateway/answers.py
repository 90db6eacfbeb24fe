"""What the verifier answers: JSON for clients, pages for people."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from prefect_platform.gateway import cookies, pages
from prefect_platform.gateway.errors import Refused, StoreUnavailable
from prefect_platform.gateway.verifier import Identity

# One text for every refusal: guessing reveals nothing.
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="prefect-platform"', **pages.PRIVATE}
_WAIT = {"Retry-After": "5", **pages.PRIVATE}


def admitted(request: Request, identity: Identity) -> Response:
    return Response(headers={**identity.headers, **cookies.for_a_service(request.headers)})


def refusal(reason: Refused | StoreUnavailable, readable_of: str) -> Response:
    """`readable_of` is the issuer whose login page a browser gets; empty for a client, which gets JSON."""
    if isinstance(reason, StoreUnavailable):
        unavailable = JSONResponse({"error": "unavailable"}, 503, _WAIT)
        return store_page("Try again in a moment.") if readable_of else unavailable
    if readable_of:
        return pages.page(401, "Please log in", pages.how_to_log_in(readable_of), _CHALLENGE)
    return JSONResponse({"error": "unauthorized"}, 401, _CHALLENGE)


def forbidden(why: str, readable: bool, hint: str = "") -> Response:
    body = {"error": "forbidden", **({"hint": hint} if hint else {})}
    return pages.page(403, "Not allowed", (why,)) if readable else JSONResponse(body, 403, pages.PRIVATE)


def no_identity(readable: bool) -> Response:
    if readable:
        return pages.page(
            401, "Please sign in again", ("Single sign-on did not identify you.", pages.SIGN_OUT)
        )
    return JSONResponse({"error": "unauthorized", "hint": "no identity"}, 401, pages.PRIVATE)


def not_a_member(name: str, readable: bool) -> Response:
    # Header bytes are UTF-8 read as Latin-1.
    shown = name.encode("latin-1").decode(errors="replace")
    why = f"You are signed in as {shown}, who is not in a group that may use this."
    return (
        pages.page(403, "Not allowed", (why, pages.SIGN_OUT))
        if readable
        else JSONResponse({"error": "forbidden"}, 403, pages.PRIVATE)
    )


def no_such_link(issuer: str) -> Response:
    return pages.page(401, "This login link has been used or has expired", pages.how_to_log_in(issuer))


def store_page(what: str) -> Response:
    return pages.page(503, "The token database cannot be reached", (what,), _WAIT)
