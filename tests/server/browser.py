"""Debian's Chromium, without a window, that notes whatever a page should not do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAM = "chromium"
AXE = Path(__file__).parents[2] / "build/axe/node_modules/axe-core/axe.min.js"
"""From npm, as ``npm install --prefix build/axe axe-core`` leaves it."""

WIDE, NARROW = 1440, 375


@dataclass
class Watched:
    """A page of a browser, and what went wrong in it.

    Attributes:
        page: of playwright.
        url: of the server.
        problems: errors and warnings of its console, dialogs, requests to elsewhere.
    """

    page: Page
    url: str
    problems: list[str] = field(default_factory=list)

    def open(self, path: str, status: int = 200) -> None:
        """Go to a page of the server."""
        self.problems = [one for one in self.problems if not one.startswith("expected:")]
        answer = self.page.goto(self.url + path)
        assert answer is not None
        assert answer.status == status, path
        self.page.wait_for_load_state("networkidle")

    def check(self, where: str) -> None:
        """Check that nothing went wrong, and that the page is no wider than the window."""
        assert not self.problems, (where, self.problems)
        script = "document.scrollingElement.scrollWidth - innerWidth"
        assert self.page.evaluate(script) <= 0, f"{where} is wider than the window"

    def axe(self) -> list[str]:
        """Return what axe-core finds serious or critical."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found: dict[str, Any] = self.page.evaluate(
            "axe.run(document, {resultTypes: ['violations']})"
        )
        return [
            f"{one['id']}: {node['html'][:200]} {node.get('failureSummary', '')}"
            for one in found["violations"]
            if one["impact"] in {"serious", "critical"}
            for node in one["nodes"]
        ]


@contextmanager
def started() -> Iterator[Browser]:
    """Start a browser for the length of the block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which(PROGRAM), args=["--no-sandbox"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watched(browser: Browser, url: str, **options: Any) -> Iterator[Watched]:
    """Open a page in a context of its own; ``options`` are those of playwright's new_context."""
    options.setdefault("viewport", {"width": WIDE, "height": 900})
    context = browser.new_context(**options)
    page = context.new_page()
    found = Watched(page, url)
    page.on("console", lambda said: _note(found, said))
    page.on("pageerror", lambda error: found.problems.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (found.problems.append("a dialog"), dialog.dismiss()))
    page.on("request", lambda request: _elsewhere(found, request.url))
    page.on("requestfailed", lambda request: found.problems.append(f"failed: {request.url}"))
    try:
        yield found
    finally:
        context.close()


def _note(found: Watched, said: Any) -> None:
    if said.type in {"error", "warning"} and "status of 4" not in said.text:
        found.problems.append(f"{said.type}: {said.text}")


def _elsewhere(found: Watched, url: str) -> None:
    if not url.startswith((found.url, "data:")):
        found.problems.append(f"elsewhere: {url}")
