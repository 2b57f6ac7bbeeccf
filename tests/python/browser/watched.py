"""A browser page that forgives nothing: a dialog, an error on its console or a broken rule of its CSP fails the test."""
import re
from dataclasses import dataclass, field

from playwright.sync_api import BrowserContext, Page

# The page itself reports what its content security policy stopped, whichever way the browser words it.
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
    console.error(`CSP: ${event.violatedDirective} stopped ${event.blockedURI || "inline"} at ${event.sourceFile}`));
"""


@dataclass
class Watch:
    """What went wrong in the pages of a context, but for what a test says it provokes."""

    complaints: list[str] = field(default_factory=list)
    expected: list[re.Pattern[str]] = field(default_factory=list)

    def expect(self, pattern: str) -> None:
        """Names a complaint that this test causes on purpose, as a wrong password's 401."""
        self.expected.append(re.compile(pattern))

    def over(self, context: BrowserContext) -> None:
        context.add_init_script(REPORT_VIOLATIONS)
        context.on("page", self._page)

    def _page(self, page: Page) -> None:
        page.on("console", lambda said: said.type == "error" and self._note(f"console: {said.text} {said.location.get('url', '')}"))
        page.on("pageerror", lambda error: self._note(f"error: {error}"))
        page.on("dialog", self._dialog)

    def _dialog(self, dialog) -> None:
        self._note(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _note(self, complaint: str) -> None:
        self.complaints.append(complaint)

    def unexpected(self) -> list[str]:
        return [said for said in self.complaints if not any(pattern.search(said) for pattern in self.expected)]
