"""The browser's door: login links, cookies, what other sites may not do, logout."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.gateway.process import Gateway

NAVIGATION = (("Accept", "text/html,*/*;q=0.8"), ("X-Forwarded-Method", "GET"), ("X-Forwarded-Proto", "http"))
OUR_PAGE = ("Origin", "http://127.0.0.1:8123")
HERE = (("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "127.0.0.1:8123"))


def test_a_login_link_works_once(shared: Gateway) -> None:
    path = shared.login_path()
    first = shared.get(path)
    shared.client.cookies.clear()
    assert (first.status_code, first.headers["Location"]) == (303, "/prefect/")
    assert first.headers["Referrer-Policy"] == "no-referrer"
    assert first.headers["Cache-Control"] == "no-store"
    second = shared.get(path)
    assert (second.status_code, "set-cookie" in second.headers) == (401, False)
    assert "./invoke gateway.login-url" in second.text


def test_the_cookie_is_kept_from_scripts_and_other_sites(shared: Gateway) -> None:
    cookie = shared.get(shared.login_path()).headers["Set-Cookie"]
    shared.client.cookies.clear()
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert attributes == {"httponly", "samesite=lax", "path=/", "max-age=43200"}


def test_behind_https_the_cookie_is_bound_to_the_host(gateway: Gateway) -> None:
    gateway.env["GATEWAY_PUBLIC_URL"] = "https://prefect.example.com"
    gateway.start()
    cookie = gateway.get(gateway.login_path()).headers["Set-Cookie"]
    assert cookie.startswith("__Host-platform_session=")
    assert "; Secure" in cookie
    assert "domain" not in cookie.lower()


def test_of_many_concurrent_uses_one_wins(shared: Gateway) -> None:
    path = shared.login_path()
    with ThreadPoolExecutor(8) as pool:
        # Each for itself: with the winner's cookie a used link leads in.
        statuses = [response.status_code for response in pool.map(httpx.get, [f"{shared.url}{path}"] * 16)]
    assert sorted(statuses) == [303] + [401] * 15


def test_looking_at_a_link_does_not_use_it_up(shared: Gateway) -> None:
    path = shared.login_path()
    assert "set-cookie" not in shared.client.head(f"{shared.url}{path}").headers
    assert shared.get(path, [("Sec-Purpose", "prefetch;prerender")]).status_code == 503
    assert shared.get(path).status_code == 303
    shared.client.cookies.clear()


def test_an_old_or_unknown_code_is_refused(shared: Gateway) -> None:
    path = shared.login_path()
    shared.sql(
        "UPDATE gateway_login_codes SET expires_at = datetime('now', '-1 second') WHERE used_at IS NULL"
    )
    for tried in (
        path,
        "/auth/login?code=guess",
        "/auth/login?code=",
        "/auth/login",
        "/auth/login?code=%ff%00",
    ):
        assert shared.get(tried).status_code == 401


def test_a_code_is_strong_short_lived_and_stored_as_a_hash(shared: Gateway) -> None:
    [code] = parse_qs(urlsplit(shared.login_path()).query)["code"]
    assert len(code) >= 43  # base64url of 256 bits
    rows = shared.sql(
        "SELECT *, strftime('%s', expires_at) - strftime('%s', created_at) FROM gateway_login_codes"
    )
    assert code not in str(rows)
    assert rows[-1][-1] == 300


def test_a_session_is_recorded_and_logout_revokes_it(shared: Gateway) -> None:
    cookie = shared.log_in()
    admitted = shared.browse(cookie)
    assert admitted.status_code == 200
    assert admitted.headers["X-Platform-Subject"] == "platform/browser"
    jti = admitted.headers["X-Platform-Token-Id"]
    assert shared.sql("SELECT kind, revoked_at FROM gateway_tokens WHERE jti = ?", jti) == [("session", None)]
    gone = shared.log_out(cookie, OUR_PAGE)
    assert gone.status_code == 200
    assert f'{shared.cookie_name}="";' in gone.headers["Set-Cookie"]
    assert "Max-Age=0" in gone.headers["Set-Cookie"]
    assert shared.browse(cookie).status_code == 401
    [(revoked,)] = shared.sql("SELECT revoked_at FROM gateway_tokens WHERE jti = ?", jti)
    assert revoked is not None


@pytest.mark.parametrize("cookie", ["", "garbage"])
def test_logout_without_a_session_is_harmless(shared: Gateway, cookie: str) -> None:
    assert shared.log_out(cookie, OUR_PAGE).status_code == 200


def test_without_a_session_a_person_reads_how_to_log_in(shared: Gateway) -> None:
    page = shared.get("/verify/prefect/browser", NAVIGATION)
    assert page.status_code == 401
    assert page.headers["Content-Type"].startswith("text/html")
    assert "WWW-Authenticate" in page.headers
    assert "./invoke gateway.login-url" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    for foreign in ("http:", "https:", "src=", "<script", "url("):
        assert foreign not in page.text


@pytest.mark.parametrize(
    "headers",
    [
        [("Accept", "application/json"), ("X-Forwarded-Method", "GET")],
        [("Accept", "text/html"), ("X-Forwarded-Method", "POST")],
        [("Accept", "text/html"), ("X-Forwarded-Method", "GET"), ("X-Forwarded-Proto", "wss")],
        [],
    ],
)
def test_a_program_gets_json(shared: Gateway, headers: list[tuple[str, str]]) -> None:
    answer = shared.get("/verify/prefect/browser", headers)
    assert (answer.status_code, answer.json()) == (401, {"error": "unauthorized"})


def test_an_authorization_header_is_judged_alone(shared: Gateway) -> None:
    cookie = shared.log_in()
    for value in ("Basic dXNlcjpwYXNz", "Bearer garbage", ""):
        assert shared.browse(cookie, ("Authorization", value)).status_code == 401
    assert shared.browse("garbage", ("Authorization", f"Bearer {shared.new_token()}")).status_code == 200


def test_a_planted_second_cookie_shuts_the_door(shared: Gateway) -> None:
    cookie = shared.log_in()
    assert shared.browse(f"{cookie}; {shared.cookie_name}={cookie}").status_code == 401
    assert shared.browse(cookie, ("Cookie", f"{shared.cookie_name}={cookie}")).status_code == 401


def test_a_session_is_held_to_its_scope(shared: Gateway) -> None:
    cookie = shared.log_in("--scope", "metrics")
    assert shared.browse(cookie, scope="metrics").status_code == 200
    assert shared.browse(cookie).status_code == 403
    page = shared.browse(cookie, *NAVIGATION)
    assert (page.status_code, page.headers["Content-Type"]) == (403, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("origin", "site", "status"),
    [
        ("http://127.0.0.1:8123", None, 200),
        ("HTTP://127.0.0.1:8123", "same-origin", 200),
        (None, None, 200),
        (None, "same-origin", 200),
        (None, "none", 200),
        (None, "same-site", 403),
        (None, "cross-site", 403),
        ("null", None, 403),
        ("", None, 403),
        ("https://127.0.0.1:8123", None, 403),
        ("http://127.0.0.1:8124", None, 403),
        ("http://127.0.0.1", None, 403),
        ("http://127.0.0.1:8123.evil.test", None, 403),
        ("http://evil.test", "same-origin", 403),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE", "websocket"])
def test_other_sites_cannot_use_the_cookie(
    shared: Gateway, session: str, method: str, origin: str | None, site: str | None, status: int
) -> None:
    headers = [("X-Forwarded-Host", "127.0.0.1:8123")]
    if method == "websocket":
        headers += [("X-Forwarded-Proto", "ws"), ("X-Forwarded-Method", "GET")]
    else:
        headers += [("X-Forwarded-Proto", "http"), ("X-Forwarded-Method", method)]
    headers += [("Origin", origin)] if origin is not None else []
    headers += [("Sec-Fetch-Site", site)] if site is not None else []
    assert shared.browse(session, *headers).status_code == status


@pytest.fixture(scope="module")
def session(shared: Gateway) -> str:
    return shared.log_in()


def test_reading_needs_no_origin_and_tokens_need_none_at_all(shared: Gateway, session: str) -> None:
    foreign = ("Origin", "http://evil.test")
    for method in ("GET", "HEAD", "OPTIONS"):
        assert shared.browse(session, ("X-Forwarded-Method", method), foreign, *HERE).status_code == 200
    bearer = ("Authorization", f"Bearer {shared.new_token()}")
    posted = shared.get("/verify/prefect/browser", [bearer, ("X-Forwarded-Method", "POST"), foreign, *HERE])
    assert posted.status_code == 200


def test_a_websocket_is_known_by_any_of_its_marks(shared: Gateway, session: str) -> None:
    read = (
        ("X-Forwarded-Method", "GET"),
        ("Origin", "http://evil.test"),
        ("X-Forwarded-Host", "127.0.0.1:8123"),
    )
    for mark in (("X-Forwarded-Proto", "WS"), ("Upgrade", "WebSocket"), ("Sec-WebSocket-Key", "dGVzdA==")):
        assert shared.browse(session, *read, mark).status_code == 403


def test_two_origins_are_none(shared: Gateway, session: str) -> None:
    ours = ("Origin", "http://127.0.0.1:8123")
    assert shared.browse(session, ("X-Forwarded-Method", "POST"), ours, ours, *HERE).status_code == 403


def test_the_configured_public_origin_counts_behind_another_proxy(gateway: Gateway) -> None:
    """The edge ends TLS, so Traefik says http: the browser's origin is the public one all the same."""
    gateway.env["GATEWAY_PUBLIC_URL"] = "https://prefect.example.com"
    gateway.start()
    name = "__Host-platform_session"
    cookie = gateway.get(gateway.login_path()).headers["Set-Cookie"].split(";")[0].removeprefix(f"{name}=")
    headers = [("Cookie", f"{name}={cookie}"), ("X-Forwarded-Method", "POST"), ("X-Forwarded-Proto", "http")]
    headers += [("X-Forwarded-Host", "prefect.example.com"), ("Origin", "https://prefect.example.com")]
    assert gateway.get("/verify/prefect/browser", headers).status_code == 200
