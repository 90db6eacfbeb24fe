"""A person's way in, in a real browser: the page without a session, the login link, the dashboard, the canary run."""

from __future__ import annotations

import pytest
from playwright.sync_api import BrowserContext

from tests.browsing import Opened

from .conftest import Clone
from .journey import canary_run, in_and_out

pytestmark = [pytest.mark.timeout(600), pytest.mark.browser]


def test_a_link_in_a_log_opens_the_run(platform: Clone, browser: BrowserContext) -> None:
    canary = canary_run(platform)
    lines = platform.invoke("prefect.logs", "--service", "worker").stdout.splitlines()
    link = next(line.split()[-1] for line in lines if f"'{canary}' - View at" in line)
    assert link.startswith(f"{platform.url}/prefect/")
    page = browser.new_page()
    opened = Opened(page)
    page.goto(platform.invoke("gateway.login-url").stdout.strip())
    page.wait_for_url("**/prefect/**")
    page.goto(link)
    opened.shows(canary)


def test_the_way_in_and_out(platform: Clone, browser: BrowserContext) -> None:
    in_and_out(platform, browser)
