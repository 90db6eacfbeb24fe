"""A person's way through the UI, on any target."""

from __future__ import annotations

import re

from playwright.sync_api import BrowserContext, Cookie, Page, expect

from tests.browsing import Opened
from tests.platforms import Reached


def _assert_asks_to_log_in(page: Page, url: str) -> None:
    answer = page.goto(url)
    assert answer
    assert answer.status == 401
    expect(page.locator("h1")).to_have_text("Please log in")
    expect(page.locator("body")).to_contain_text("./invoke gateway.login-url")


def _session(browser: BrowserContext) -> Cookie | None:
    """Our cookie; Prefect 3.8.8's UI sets one of its own as well."""
    return next((each for each in browser.cookies() if "session" in each["name"]), None)


def canary_run(platform: Reached) -> str:
    """The name of a canary run of now: the UI shows the newest runs only, and other tests make many."""
    shown = platform.invoke("prefect.smoke").stdout
    found = re.search(r"run (\S+) \(", shown)
    assert found, shown
    return found[1]


def in_and_out(platform: Reached, browser: BrowserContext) -> None:
    """Refused, let in by a login link, around the UI, out again."""
    canary = canary_run(platform)
    dashboard = f"{platform.url}/prefect/v2/dashboard"
    page = browser.new_page()
    _assert_asks_to_log_in(page, dashboard)

    link = platform.invoke("gateway.login-url").stdout.strip()
    opened = Opened(page)
    page.goto(link)
    page.wait_for_url("**/prefect/**")
    opened.shows("Flow Runs")
    cookie = _session(browser)
    assert cookie
    assert cookie["httpOnly"]
    assert cookie["sameSite"] in ("Lax", "Strict")

    for icon in ("/favicon.ico", "/ico/favicon-16x16.png"):
        found = browser.request.get(f"{platform.url}{icon}")
        assert found.headers["content-type"].startswith("image/"), (icon, found.status)

    runs = page.goto(f"{platform.url}/prefect/v2/runs")
    assert runs
    assert runs.headers["content-security-policy"] == "connect-src 'self'; frame-ancestors 'none'"
    expect(page.locator("body")).to_contain_text("platform-canary", timeout=60_000)
    page.get_by_role("link", name=canary).click(timeout=60_000)
    expect(page.locator("body")).to_contain_text("platform canary: alive", timeout=60_000)

    # In another tab; the open dashboard is told so with its next look at the API, and the person how to go on.
    page.goto(dashboard)
    expect(page.locator("body")).to_contain_text("Flow Runs", timeout=60_000)
    other = browser.new_page()
    other.goto(f"{platform.url}/auth/logout")
    other.get_by_role("button", name="Log out").click()
    expect(other.locator("h1")).to_have_text("You are logged out")
    expect(page.get_by_role("alert")).to_contain_text("You are signed out.", timeout=60_000)
    page.get_by_role("button", name="Sign in again").click()
    expect(page.locator("h1")).to_have_text("Please log in")
    assert _session(browser) is None
    _assert_asks_to_log_in(page, dashboard)
    # Not only forgotten by this browser: the session itself has ended.
    browser.add_cookies([{"name": cookie["name"], "value": cookie["value"], "url": platform.url}])
    assert _session(browser)
    _assert_asks_to_log_in(page, dashboard)

    browser.clear_cookies()
    again = page.goto(link)
    assert again
    assert again.status == 401, "a login link works once"
    _assert_asks_to_log_in(page, dashboard)
