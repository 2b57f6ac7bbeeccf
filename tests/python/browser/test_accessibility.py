"""Every state of every view, light and dark, wide and on a phone: axe-core finds nothing, and nothing is too wide."""
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

import states
from accessible import PHONE, too_wide, violations
from conftest import OpenPage
from installation import Installation
from states import CORE, EDGE, Stage

# What a view may take to read and draw what it shows.
SETTLED_MS = 200
# Ten thousand rows look like forty, and take minutes to come.
STATES = tuple(one for one in states.ALL if one is not states.many)


@pytest.mark.apart
@pytest.mark.parametrize("bring_about", STATES, ids=lambda one: one.__name__)
def test_axe_finds_nothing_in_any_state(browser: Browser, directory: Path, bring_about: Callable[[Stage, Path], None]) -> None:
    found: list[str] = []
    seen: list[str] = []

    def look(page: Page, name: str) -> None:
        page.wait_for_timeout(SETTLED_MS)
        seen.append(name)
        found.extend(f"{name}: {one}" for one in violations(page) + too_wide(page))

    bring_about(Stage(browser, look, hurried=True), directory / "states")
    assert seen and not found, "\n".join(found)


def test_axe_finds_what_is_wrong(main: Installation, open_page: OpenPage) -> None:
    """Were it blind, the tests above would pass whatever a page is like."""
    page = open_page(main.edge)
    expect(page.locator("h1")).to_be_visible()
    page.locator("h1").evaluate("one => { one.after(document.createElement('input')); document.body.style.minWidth = '4000px'; }")
    assert any(" label " in one for one in violations(page)) and too_wide(page)


def test_no_view_is_wider_than_a_phone(main: Installation, open_page: OpenPage) -> None:
    for site, views in ((main.edge, EDGE), (main.core, CORE)):
        page = open_page(site, "olga", viewport=PHONE)
        for view in views:
            page.goto(f"/#/{view}")
            expect(page.locator("h1")).to_be_visible()
            assert not too_wide(page)
