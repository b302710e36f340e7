"""The web page in headless Chromium, for tests. Whatever a test does, nothing may leave the server it came from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, Locator, Page, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """The one that is installed: `make test` makes sure of it."""
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    assert found, f"the page is tested in a browser, and none of {BROWSERS} is here"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found[0], args=QUIET)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """One person with a fresh browser profile at the page."""

    page: Page
    address: str
    problems: list[str] = field(default_factory=list)

    @property
    def answers(self) -> Locator:
        return self.page.locator(".answer")

    @property
    def message(self) -> Locator:
        return self.page.get_by_role("textbox", name="Ask something")

    def ask(self, text: str, *, waits: bool = True) -> Locator:
        """Types, sends, and returns the answer, finished unless one does not wait."""
        count = self.answers.count()
        self.message.fill(text)
        self.message.press("Enter")
        answer = self.answers.nth(count)
        answer.wait_for()
        if waits:
            self.wait_finished(answer)
        return answer

    def wait_finished(self, answer: Locator) -> None:
        self.page.locator(".answer[aria-busy=true]").first.wait_for(state="detached")
        assert answer.get_attribute("aria-busy") == "false"

    def reload(self) -> None:
        self.page.reload()
        self.wait_ready()

    def wait_ready(self) -> None:
        """The model is known."""
        self.page.locator("#model-facts dd").first.wait_for(state="attached")

    def look_inside(self) -> Locator:
        self.page.get_by_role("button", name="Look inside").click()
        return self.page.get_by_role("complementary", name="Look inside")

    def set(self, **values: str) -> None:
        """Changes settings by their labels, `_` for a space."""
        self.page.get_by_role("button", name="Settings").click()
        for label, value in values.items():
            self.page.get_by_label(label.replace("_", " ")).fill(value)
        self.page.get_by_role("button", name="Save").click()


@contextmanager
def visiting(browser: Browser, address: str, *, is_ready: bool = True, **context: Any) -> Iterator[Visit]:
    """Fails afterwards for errors in the console and for requests to anywhere else, unless the test forgave them."""
    profile = browser.new_context(**context)
    try:
        visit = Visit(profile.new_page(), address)
        page, problems = visit.page, visit.problems
        page.set_default_timeout(30_000)
        page.on(
            "console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        own = (f"{address}/", "data:", "blob:")
        page.on(
            "request", lambda request: None if request.url.startswith(own) else problems.append(request.url)
        )
        page.goto(address)
        if is_ready:
            visit.wait_ready()
        yield visit
        assert problems == []
    finally:
        profile.close()
