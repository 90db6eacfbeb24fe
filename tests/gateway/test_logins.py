"""Where a login leads, and what ends a session."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.gateway.process import Gateway

NAVIGATION = (("Accept", "text/html,*/*;q=0.8"), ("X-Forwarded-Method", "GET"), ("X-Forwarded-Proto", "http"))
OUR_PAGE = ("Origin", "http://127.0.0.1:8123")


@pytest.fixture(scope="module")
def session(shared: Gateway) -> str:
    return shared.log_in()


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Origin", "null")],
        [("Origin", "http://127.0.0.1:8124")],
        [("Origin", "https://evil.test"), ("Sec-Fetch-Site", "same-origin")],
        [("Sec-Fetch-Site", "same-site")],
        [("Sec-Fetch-Site", "none")],
        [("Sec-Fetch-Site", "cross-site")],
    ],
)
def test_only_the_button_of_our_own_page_ends_a_session(
    shared: Gateway, session: str, headers: list[tuple[str, str]]
) -> None:
    cookie = ("Cookie", f"{shared.cookie_name}={session}")
    page = shared.get("/auth/logout", [cookie, *headers])
    assert (page.status_code, "set-cookie" in page.headers) == (200, False)
    assert '<form method="post" action="/auth/logout">' in page.text
    assert "form-action 'self'" in page.headers["Content-Security-Policy"]
    assert page.headers["Referrer-Policy"] == "same-origin", "else the form's origin would be null"
    for path in ("/auth/logout", "/auth/logout/sso"):
        refused = shared.log_out(session, *headers, path=path)
        assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)
    assert shared.browse(session).status_code == 200


def test_with_single_sign_on_authentik_s_session_is_next(shared: Gateway) -> None:
    cookie = shared.log_in()
    page = shared.log_out(cookie, OUR_PAGE, path="/auth/logout/sso")
    assert page.headers["Refresh"] == "0; url=/outpost.goauthentik.io/sign_out"
    assert shared.browse(cookie).status_code == 401
    assert 'href="/outpost.goauthentik.io/sign_out"' in shared.get("/auth/sign-out").text


def test_a_used_link_leads_in_who_is_logged_in(shared: Gateway) -> None:
    path = shared.login_path()
    first = shared.get(path)
    cookie = first.headers["Set-Cookie"].split(";")[0]
    shared.client.cookies.clear()
    for headers, status in (([("Cookie", cookie)], 303), ([("Cookie", f"{cookie}x")], 401), ([], 401)):
        again = shared.get(path, headers)
        assert (again.status_code, "set-cookie" in again.headers) == (status, False)


@pytest.mark.parametrize(
    ("wanted", "led"),
    [
        ("/prefect/v2/runs/flow-run/0a1b?tab=Logs;x=%22&y=a,b#c", True),
        ("/prefect/", True),
        ("//evil.test/prefect/", False),
        ("/\\evil.test", False),
        ("/prefect/\\x", False),
        ("https://evil.test/prefect/", False),
        ("/auth/logout", False),
        ("/prefectx", False),
        ("/prefect/" + "x" * 3000, False),
        ("", False),
    ],
)
def test_a_login_leads_to_the_page_that_was_asked_for(shared: Gateway, wanted: str, led: bool) -> None:
    page = shared.get("/verify/prefect/browser", [*NAVIGATION, ("X-Forwarded-Uri", wanted)])
    assert page.status_code == 401
    kept = page.headers.get("Set-Cookie", "")
    assert bool(kept) == (led and wanted != "/prefect/")
    name, value = f"{shared.cookie_name}".replace("session", "return"), quote(wanted, safe="")
    assert not kept or kept.startswith(
        f"{name}={value}; HttpOnly; Max-Age=900; Path=/auth/login; SameSite=lax"
    )
    # Even if somebody else had set it.
    answer = shared.get(shared.login_path(), [("Cookie", f"{name}={value}")])
    shared.client.cookies.clear()
    assert answer.headers["Location"] == (wanted if led else "/prefect/")
    assert f'{name}="";' in "".join(answer.headers.get_list("Set-Cookie"))
