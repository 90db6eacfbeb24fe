"""Single sign-on as a browser without a session meets it, and what each failure means."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import httpx

from prefect_platform.errors import CheckFailed
from prefect_platform.http_client import described

from .spec import CheckSpec

_PAGE = {"Accept": "text/html,*/*"}
# What a stranger might hope to be taken for.
_FORGED = {"X-authentik-username": "akadmin", "X-authentik-groups": "admins", "X-Platform-Role": "admin"}
_LOG = "./invoke authentik.logs --service server"
_SETUP = "./invoke authentik.setup, then ./invoke prefect.setup"


def sso(spec: CheckSpec, client: httpx.Client) -> str:
    """Without a session a page leads to the login on the sign-on's own host, and from there back to this one. Raises CheckFailed."""
    path = f"{spec.ui_path}/"
    try:
        answer = client.get(path, headers={**_PAGE, **_FORGED}, follow_redirects=False)
    except httpx.RequestError as error:
        raise CheckFailed(f"GET {path}: no answer ({described(error)})", "./invoke traefik.setup") from None
    if answer.status_code != 302:
        raise _not_sent(path, answer)
    asked = answer.headers.get("location", "")
    _leads_to_login(spec, path, asked)
    _leads_back(spec, asked)
    return f"302 to {spec.sso_url}, and from there back here"


def _not_sent(path: str, answer: httpx.Response) -> CheckFailed:
    status, said = answer.status_code, " ".join(answer.text[:200].split())
    told = f"GET {path} without a session: {status} {said}".strip()
    if answer.is_success:
        return CheckFailed(
            f"{told}: Prefect answers without authentication",
            "take the host offline: ./invoke traefik.stop; then find the cause: " + _LOG,
        )
    if status in (400, 404):
        return CheckFailed(
            f"{told}: the outpost does not serve this host or does not trust the gateway's address", _SETUP
        )
    if status in (500, 502, 503, 504):
        return CheckFailed(f"{told}: Authentik does not answer the gateway's auth request", _LOG)
    return CheckFailed(f"{told}, expected a redirect to the login", _LOG)


def _leads_to_login(spec: CheckSpec, path: str, asked: str) -> None:
    there, wanted = urlsplit(asked), urlsplit(spec.sso_url or "")
    if (there.scheme, there.netloc) == (wanted.scheme, wanted.netloc):
        return
    if there.netloc == wanted.netloc:
        raise CheckFailed(
            f"GET {path} leads to {there.scheme}:// of {there.netloc}, not {wanted.scheme}://: Authentik does not trust the gateway's address",
            _SETUP,
        )
    raise CheckFailed(
        f"GET {path} leads to {there.netloc or asked!r}, where no browser can sign in; expected {wanted.netloc}: "
        "authentik_host of the embedded outpost is wrong",
        "./invoke prefect.setup sets it (of an Authentik that runs elsewhere: Applications → Outposts → Edit)",
    )


def _leads_back(spec: CheckSpec, asked: str) -> None:
    back = (parse_qs(urlsplit(asked).query).get("redirect_uri") or [""])[0]
    ours = urlsplit(spec.public_url)
    if (urlsplit(back).scheme, urlsplit(back).netloc) != (ours.scheme, ours.netloc):
        raise CheckFailed(
            f"after the login a browser is sent to {back or 'nowhere'}, not to {spec.public_url}: sign-in would fail with a Redirect URI Error",
            "./invoke prefect.setup corrects the provider's external host",
        )
