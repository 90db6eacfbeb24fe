"""Traefik and the verifier together: what reaches the service behind a route, and what its pages can do with a person's session."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from .reached import Front, standing

pytestmark = pytest.mark.timeout(300)
APP = "app.localhost"
ROUTES: list[dict[str, Any]] = [
    {"name": "open", "path": "/open", "auth": "public"},
    {"name": "admin", "path": "/open/admin", "auth": "token"},
    {"name": "api", "path": "/api", "auth": "token"},
    {"name": "app", "host": APP, "auth": "public"},
    {"name": "here", "host": "127.0.0.1", "auth": "public"},
]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, entry: dict[str, Any]) -> Iterator[Front]:
    with standing(tmp_path_factory.mktemp("front"), json.dumps([entry]), ROUTES) as made:
        yield made


@pytest.fixture(scope="module")
def bearer(front: Front) -> str:
    return f"Bearer {front.gateway.new_token('--scope', 'prefect api admin')}"


@pytest.fixture(scope="module")
def session(front: Front) -> str:
    return front.session()


@pytest.mark.parametrize(("path", "host"), [("/open/x", ""), ("/api/x", ""), ("/x", APP), ("/prefect/x", "")])
def test_our_cookies_reach_no_service_and_the_users_own_do(
    front: Front, session: str, bearer: str, path: str, host: str
) -> None:
    """Whatever lets the request in. Cookies of other platforms on this machine and of single sign-on are ours too."""
    ours = f"{session}; __Host-platform_session=x; platform_session_8099=y; platform_return_1=z; authentik_proxy_0a1b2c3d=w"
    sent = {} if path.startswith(("/open", "/x")) else {"Authorization": bearer}
    seen = front.get(path, host, f"theme=dark; {ours}; cart=1=2", **sent)
    assert seen.json()["headers"]["cookie"] == "theme=dark; cart=1=2"
    assert "cookie" not in front.get(path, host, ours, **sent).json()["headers"]
    assert front.get(path, host, "theme=dark", **sent).json()["headers"]["cookie"] == "theme=dark"


def test_without_our_cookies_a_public_route_needs_no_verifier(front: Front) -> None:
    front.gateway.stop()
    try:
        assert front.get("/open/x", cookie="theme=dark").status_code == 200
    finally:
        front.gateway.start()


OTHER_SPELLINGS = (
    "/open/admin;x/", "/open/admin;x", "/open/admin%3Bx/", "/open/ADMIN", "/open/Admin/x", "/OPEN/admin", "/open/admin%20/",
    "/open/admin%20", "/open/%20admin/", "/open/admin./x", "/open/admin.", "/open/;x/admin", "/open;x/admin", "/open/admin%09",
    "/open/admin%C2%A0", "/open/%61dmin", "/open//admin", "/open/./admin", "/open/x/..;/admin", "/open/.;/admin", "/open/x/..%20/admin",
    "/open%2Fadmin", "/open/admin%2F", "/open/admin%00", "/open/%EF%BB%BFadmin", "/x/../open/admin",
)  # fmt: skip


@pytest.mark.parametrize("path", OTHER_SPELLINGS)
def test_another_spelling_of_a_protected_path_does_not_fall_through_to_a_public_parent(
    front: Front, path: str
) -> None:
    front.service.seen.clear()
    assert front.get(path).status_code in (400, 401, 404)
    assert not front.service.seen


@pytest.mark.parametrize(
    "path",
    [
        "/open/administration",
        "/open/admin-tools",
        "/open/admin.css",
        "/open/x/admin",
        "/open/@x/admin",
        "/open/",
    ],
)
def test_another_name_stays_with_the_public_parent(front: Front, path: str) -> None:
    assert front.get(path).json()["path"] == path


@pytest.mark.parametrize("host", ["", APP, "127.0.0.1", "APP.localhost."])
@pytest.mark.parametrize("path", ["/prefect", "/prefect/", "/prefect/api/health", "/prefect/api/metrics"])
def test_a_host_only_route_never_takes_prefect(front: Front, bearer: str, path: str, host: str) -> None:
    assert front.get(path, host).status_code == 401
    if "metrics" not in path:
        assert (
            front.get(path, host, Authorization=bearer)
            .headers["Content-Security-Policy"]
            .startswith("connect-src")
        )


def test_on_the_host_of_a_service_there_is_no_session(front: Front, session: str) -> None:
    """Its pages share that origin. Its paths are its own, and so is /auth/login."""
    assert front.get("/prefect/api/health", APP, session).status_code == 401
    assert front.get("/prefect/api/health", "", session).status_code == 200
    assert front.get("/auth/login", APP).json()["path"] == "/auth/login"
    assert front.get("/", APP).json()["path"] == "/"


@pytest.mark.parametrize(
    "path", ["/ico/favicon-32x32.png", "/favicon.ico", "/favicon-dark.ico?x=1", "/favicon-32x32.png"]
)
def test_icons_that_the_ui_asks_for_outside_its_path_are_found(front: Front, path: str) -> None:
    answer = front.get(path, "localhost")
    assert answer.status_code in (301, 302, 307, 308)
    name = path.partition("?")[0].rpartition("/")[2]
    assert answer.headers["Location"] == f"/prefect/ico/{name}"


ACTS = """<!doctype html><h1>page</h1><script>
async function act(url) {
  const tried = [];
  for (const credentials of ["include", "same-origin"]) {
    try { const said = await fetch(url, {method: "POST", credentials, body: "{}", referrer: "/prefect/"});
          tried.push(said.status); } catch (error) { tried.push("" + error.name); }
    try { const said = await fetch(url, {credentials}); tried.push(said.status); } catch (error) { tried.push("" + error.name); }
  }
  try { history.replaceState(null, "", "/prefect/v2/"); tried.push("moved"); } catch (error) { tried.push(error.name); }
  try { tried.push(document.cookie); } catch (error) { tried.push(error.name); }
  document.querySelector("h1").textContent = JSON.stringify(tried);
}
act("%s/prefect/api/flow_runs/");
</script>"""


def _log_in(front: Front, browser: BrowserContext, path: str = "") -> Page:
    page = browser.new_page()
    if path:
        page.goto(f"{front.url}{path}")
    page.goto(f"{front.url}{front.gateway.login_path()}")
    return page


@pytest.mark.browser
def test_the_pages_of_another_service_cannot_act_with_the_session(
    front: Front, browser: BrowserContext
) -> None:
    """A path route's page on Prefect's host has no origin; one on a host of its own has another. Both load, and their scripts run."""
    page = _log_in(front, browser)
    front.service.pages |= {"/open/page": ACTS % front.url, "/page": ACTS % front.url}
    for url in (f"{front.url}/open/page", front.url.replace("127.0.0.1", APP) + "/page"):
        front.service.seen.clear()
        page.goto(url)
        expect(page.locator("h1")).to_contain_text("[", timeout=60_000)
        tried = json.loads(page.locator("h1").inner_text())
        assert 200 not in tried, tried
        assert not [each for each in front.service.seen if each[1].startswith("/prefect")], (
            "nothing reached Prefect"
        )


@pytest.mark.browser
def test_only_the_button_of_our_own_page_ends_a_session(front: Front, browser: BrowserContext) -> None:
    wanted = f"{front.url}/prefect/v2/runs?state=failed"
    page = _log_in(front, browser, "/prefect/v2/runs?state=failed")
    expect(page).to_have_url(wanted)  # the page that was asked for before the login
    logout = f"{front.url}/auth/logout"
    front.service.pages |= {
        "/image": f'<!doctype html><img src="{logout}"><h1>image</h1>',
        "/form": f'<!doctype html><form method="post" action="{logout}"><button>win</button></form>',
    }
    other = browser.new_page()
    for neighbour in (front.url.replace("127.0.0.1", APP), f"http://127.0.0.1:{front.service.port}"):
        other.goto(f"{neighbour}/image")
        other.wait_for_load_state("networkidle")
        other.goto(f"{neighbour}/form")
        other.get_by_role("button").click()
        expect(other.locator("h1")).to_have_text("Not allowed")
        other.goto(logout)
        expect(other.get_by_role("button")).to_have_text("Log out")
        answer = page.goto(wanted)
        assert answer
        assert answer.status == 200, "the session lives"
    link = f"{front.url}{front.gateway.login_path()}"
    for _ in range(2):
        page.goto(link)  # the second time it is used up, and the session leads in all the same
        expect(page).to_have_url(f"{front.url}/prefect/")
    other.get_by_role("button", name="Log out").click()
    expect(other.locator("h1")).to_have_text("You are logged out")
    answer = page.goto(link)
    assert answer
    assert answer.status == 401
