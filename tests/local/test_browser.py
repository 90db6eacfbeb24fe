"""A person's way in, in a real browser: the page without a session, the login link, the dashboard, the canary run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, expect, sync_playwright

from .conftest import Clone

pytestmark = [pytest.mark.timeout(600), pytest.mark.browser]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture
def browser() -> Iterator[BrowserContext]:
    chromium = shutil.which("chromium")
    assert chromium, "Debian's chromium is needed: .ci/install-debian"
    folder = tempfile.mkdtemp(prefix="chromium-")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder, executable_path=chromium, headless=True, args=FLAGS
        )
        yield context
        context.close()
    shutil.rmtree(folder, ignore_errors=True)


def test_the_way_in(platform: Clone, browser: BrowserContext) -> None:
    page = browser.new_page()
    answer = page.goto(f"{platform.url}/prefect/")
    assert answer
    assert answer.status == 401
    expect(page.locator("body")).to_contain_text("./invoke gateway.login-url")

    link = platform.invoke("gateway.login-url").stdout.strip()
    page.goto(link)
    page.wait_for_url("**/prefect/**")
    expect(page.locator("body")).to_contain_text("Flow Runs", timeout=60_000)
    page.goto(f"{platform.url}/prefect/v2/runs")
    expect(page.locator("body")).to_contain_text("platform-canary", timeout=60_000)

    cookie = next(each for each in browser.cookies() if "session" in each["name"])
    assert cookie["httpOnly"]
    assert cookie["sameSite"] in ("Lax", "Strict")

    browser.clear_cookies()
    again = page.goto(link)
    assert again
    assert again.status == 401, "a login link works once"
