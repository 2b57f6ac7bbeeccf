"""Only what is on offer has an expiry to set."""
from playwright.sync_api import expect

from api import eventually
from conftest import OpenPage
from installation import Installation


def test_an_expiry_is_offered_for_what_is_on_offer_alone(main: Installation, open_page: OpenPage) -> None:
    core = main.core
    core.post("/api/services/downloader/stop")
    try:
        # What it holds it still finishes.
        eventually(60, "the downloader pauses", lambda: core.service("downloader")[0]["state"] == "paused")
        eventually(60, "an asset is announced and no more", lambda: core.assets(state="announced"))
        # Whose turn comes first, then.
        [*_, announced] = core.assets(state="announced")
        page = open_page(core, "ada", f"#/assets/{announced['asset_id']}")
        expect(page.get_by_test_id("withdraw")).to_be_visible()
        expect(page.get_by_test_id("expiry")).to_have_count(0)
    finally:
        core.post("/api/services/downloader/start")
    # It is offered as soon as it is on offer.
    eventually(120, "it is on offer", lambda: core.state(announced["asset_id"]) == "broadcast")
    expect(page.get_by_test_id("state")).to_have_attribute("data-state", "broadcast", timeout=60_000)
    expect(page.get_by_test_id("expiry")).to_be_visible()
