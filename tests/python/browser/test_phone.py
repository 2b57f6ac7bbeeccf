"""The page on the narrowest phone."""
from playwright.sync_api import expect

from conftest import OpenPage
from installation import Installation

NARROW = {"width": 360, "height": 740}


def test_what_an_asset_takes_is_seen_on_a_phone(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "fred", "#/assets", viewport=NARROW)
    page.get_by_test_id("sort").select_option("at asc")
    row = page.locator("[data-index='0']")
    for part in ("title", "size", "age", "state"):
        expect(row.locator(f".asset-{part}")).to_be_visible()
    expect(row.locator(".asset-size")).to_contain_text("B")
    # Nothing stands on anything else, nor outside of the row.
    boxes = [row.locator(f".asset-{part}").bounding_box() for part in ("title", "size", "age", "state")]
    whole = row.bounding_box()
    for number, box in enumerate(boxes):
        assert whole["x"] <= box["x"] and box["x"] + box["width"] <= whole["x"] + whole["width"] + 1
        assert whole["y"] <= box["y"] + 1 and box["y"] + box["height"] <= whole["y"] + whole["height"] + 1
        for other in boxes[number + 1 :]:
            apart = (
                box["x"] + box["width"] <= other["x"] + 1 or other["x"] + other["width"] <= box["x"] + 1
                or box["y"] + box["height"] <= other["y"] + 1 or other["y"] + other["height"] <= box["y"] + 1
            )
            assert apart, (box, other)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
