"""The few pages a person sees. Self-contained: no script, no image, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import hashlib
from html import escape

from starlette.responses import HTMLResponse

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1.5rem;"
    "color:#1f2933;background:#fff}"
    "h1{font-size:1.4rem}code{display:inline-block;background:#eef2f6;padding:.3rem .6rem;border-radius:3px}"
    "@media(prefers-color-scheme:dark){body{color:#e4e7eb;background:#111827}code{background:#1f2937}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_CSP = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "base-uri 'none'; form-action {forms}; frame-ancestors 'none'"
)
PRIVATE = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
SIGN_OUT = "/outpost.goauthentik.io/sign_out"
LOG_OUT = "/auth/logout"


def how_to_log_in(issuer: str) -> tuple[str, ...]:
    """The lines of the login page; `issuer` ends in the environment, which the command must name unless it is the default."""
    env = issuer.rpartition("/")[2]
    command = "./invoke gateway.login-url" + ("" if env == "local" else f" --env {env}")
    return "On the machine that runs the platform, ask for a one-time link and open it here:", command


def page(
    status: int, title: str, lines: tuple[str, ...], headers: dict[str, str] | None = None
) -> HTMLResponse:
    """A line that begins with `./` is shown as a command, SIGN_OUT as a link, LOG_OUT as a button."""
    body = "".join(_paragraph(line) for line in lines)
    csp = _CSP.format(forms="'self'" if LOG_OUT in lines else "'none'")
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
    return HTMLResponse(html, status, {"Content-Security-Policy": csp, **PRIVATE, **(headers or {})})


def ask_to_log_out() -> HTMLResponse:
    """With `no-referrer` a browser would send the form with `Origin: null`, as a foreign page's."""
    return page(200, "Log out", ("Log out of this platform?", LOG_OUT), {"Referrer-Policy": "same-origin"})


def sign_out() -> HTMLResponse:
    """Leads on to Authentik, on another host, which browsers do not let the answer to a form do (CSP `form-action`)."""
    return page(200, "Signing out", (SIGN_OUT,), {"Refresh": f"0; url={SIGN_OUT}"})


def _paragraph(line: str) -> str:
    text = escape(line)
    if line == SIGN_OUT:
        return f'<p><a href="{text}">Sign out</a></p>'
    if line == LOG_OUT:
        return f'<form method="post" action="{text}"><p><button>Log out</button></p></form>'
    return f"<p><code>{text}</code></p>" if line.startswith("./") else f"<p>{text}</p>"
