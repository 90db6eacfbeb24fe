"""How the tests look at a page that builds itself: what a slow machine needs, and what it must not hide."""

from __future__ import annotations

from playwright.sync_api import Page, Response, expect

PATIENCE = 60_000
"""Milliseconds."""


class Opened:
    """A page that is about to be opened, and every request of it that fails from now on."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.troubles: list[str] = []
        page.on("requestfailed", lambda request: self.troubles.append(f"{request.url}: {request.failure}"))
        page.on("response", self._answered)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))

    def _answered(self, answer: Response) -> None:
        if answer.status >= 400:
            self.troubles.append(f"{answer.url}: {answer.status}")

    def shows(self, text: str) -> None:
        """Wait for a text. A page that stays empty on a busy machine is loaded once more, as a person would; one whose requests failed is
        not.
        """
        try:
            expect(self.page.locator("body")).to_contain_text(text, timeout=PATIENCE)
        except AssertionError:
            assert not self.troubles, self.troubles
            self.page.reload()
            expect(self.page.locator("body")).to_contain_text(text, timeout=PATIENCE)
