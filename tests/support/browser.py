"""Debian's chromium, driven by Playwright: pages that remember what they must not do."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from support.page_runs import Run
from support.page_server import PageServer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
LONG = 30_000
"""Milliseconds to wait for a fact, on a machine that has much else to do."""

_WATCH = """
window.seen = { violations: [], longest: 0, tasks: 0, over: 0 };
addEventListener("securitypolicyviolation", (event) => seen.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    seen.longest = Math.max(seen.longest, entry.duration);
    seen.tasks += 1;
    seen.over += entry.duration > 100 ? 1 : 0;
  }
}).observe({ type: "longtask", buffered: true });
"""  # noqa: E501


@contextmanager
def chromium(*options: str) -> Iterator[Browser]:
    """The browser, with further options. Skips what needs it where it is not installed."""
    if not CHROMIUM:
        pytest.skip("needs chromium")
    expect.set_options(timeout=LONG)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", *options]
        )
        try:
            yield browser
        finally:
            browser.close()


def context(browser: Browser, **options: Any) -> BrowserContext:
    """A browser context of its own; its pages watch for what the page's policy forbids, and for long tasks."""
    made = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
    made.set_default_timeout(LONG)
    made.add_init_script(_WATCH)
    return made


class Watched:
    """What a page asked for and complained of, in all its documents."""

    def __init__(self, page: Page) -> None:
        self.page, self.hosts, self.complaints = page, set[str](), list[str]()
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2] if "//" in request.url else ""))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._said)

    def _said(self, message: ConsoleMessage) -> None:
        # A policy that is broken, a type that is refused; not: a server that does not answer.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)

    def violations(self) -> list[str]:
        return self.page.evaluate("seen.violations")


def sign_in(page: Page, url: str, token: str) -> None:
    """Put the token where the page keeps it."""
    page.goto(url)
    page.evaluate("token => localStorage.setItem('runnable-otel.token', token)", token)


def open_run(page: Page, server: PageServer, run: Run, until: float = float("inf")) -> None:
    """Show a run, as far as it had come at that second."""
    server.send(run.until(until))
    page.goto(server.url(f"runs/{run.trace}"))
    events(page, len(run.until(until)))


def state(page: Page, text: str) -> None:
    """Wait until the bar at the foot says so."""
    expect(page.locator(".foot-state").filter(has_text=text)).to_be_visible()


def live(page: Page) -> None:
    """Wait until the page is connected; on a slow machine the run may seem to have fallen silent since."""
    expect(page.locator(".foot-text")).to_have_text(re.compile("^(Live|No sign of life since .*)$"))


def events(page: Page, count: int) -> None:
    """Wait until the page has so many events."""
    expect(page.locator(".foot-end")).to_contain_text(f"{count:,} events", timeout=4 * LONG)


def selected(page: Page) -> str:
    """The name of the chosen step."""
    return page.locator(".row.chosen .step-name").inner_text()
