"""What a page keeps from people who do not see it as its maker does."""
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

PHONE = {"width": 360, "height": 740}


def violations(page: Page) -> list[str]:
    """What axe-core finds."""
    # It stays in a page that goes from view to view.
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    found = page.evaluate("axe.run({ resultTypes: ['violations'] }).then(({ violations }) => violations)")
    return [f"{page.url}: {one['id']} ({one['impact']}): {node['html'][:160]}" for one in found for node in one["nodes"]]


def too_wide(page: Page) -> list[str]:
    """A page that must be moved sideways to be read."""
    wide, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    return [f"{page.url}: is {wide} px wide where {seen} are seen"] if wide > seen else []
