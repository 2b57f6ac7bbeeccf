"""A page worked with the keys alone, as by somebody without a mouse."""
from playwright.sync_api import Locator, Page, expect

# More than any view has to tab through.
MOST_TABS = 300


def focus(page: Page, what: str | Locator) -> None:
    """Presses Tab until the element has the focus; a word is its data-testid."""
    wanted = page.get_by_test_id(what) if isinstance(what, str) else what
    wanted = wanted.first
    expect(wanted).to_be_enabled()
    for _ in range(MOST_TABS):
        if wanted.evaluate("one => one === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab never reaches {what}")


def press(page: Page, what: str | Locator, key: str = "Enter") -> None:
    focus(page, what)
    page.keyboard.press(key)
