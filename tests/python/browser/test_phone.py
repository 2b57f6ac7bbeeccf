"""The page on the narrowest phone."""
from playwright.sync_api import expect

from conftest import OpenPage
from installation import Installation

NARROW = {"width": 360, "height": 740}
PARTS = ["title", "size", "age", "state"]


def test_what_an_asset_takes_is_seen_on_a_phone(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "fred", "#/assets", viewport=NARROW)
    page.get_by_test_id("sort").select_option("size desc")
    expect(page.get_by_test_id("assets")).to_have_attribute("aria-busy", "false")
    row = page.locator("[data-index='0']")
    for part in PARTS:
        expect(row.locator(f".asset-{part}")).to_be_visible()
    expect(row.locator(".asset-size")).to_contain_text("B")
    # Nothing stands on anything else, nor outside of the row.
    whole, *boxes = row.evaluate(
        """(row, parts) => [row, ...parts.map((part) => row.querySelector(`.asset-${part}`))].map((one) => one.getBoundingClientRect().toJSON())""",
        PARTS,
    )
    for number, box in enumerate(boxes):
        assert whole["left"] <= box["left"] and box["right"] <= whole["right"] + 1
        assert whole["top"] <= box["top"] + 1 and box["bottom"] <= whole["bottom"] + 1
        for other in boxes[number + 1 :]:
            beside = box["right"] <= other["left"] + 1 or other["right"] <= box["left"] + 1
            assert beside or box["bottom"] <= other["top"] + 1 or other["bottom"] <= box["top"] + 1, (box, other)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
