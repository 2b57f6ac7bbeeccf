"""A field team without a mouse."""
from playwright.sync_api import Page, expect

from api import eventually
from conftest import OpenPage
from installation import Installation


def focus(page: Page, testid: str) -> None:
    """Presses Tab until the element has the focus, as somebody without a mouse does."""
    for _ in range(60):
        if page.evaluate("document.activeElement?.dataset?.testid ?? ''") == testid:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab never reaches {testid}")


def press(page: Page, testid: str) -> None:
    focus(page, testid)
    page.keyboard.press("Enter")


def test_a_request_is_made_cancelled_and_mirrored_with_keys_alone(main: Installation, open_page: OpenPage) -> None:
    edge = main.edge
    eventually(60, "there are assets to ask for", lambda: len(edge.assets(state="available")) >= 2)
    edge.post("/api/mirror/stop")
    page = open_page(edge, "fred")
    press(page, "nav-assets")
    focus(page, "filter-state")
    page.keyboard.type("Available")
    expect(page.get_by_test_id("filter-state")).to_have_value("available")
    focus(page, "assets")
    # The focus is seen, not only had.
    assert page.get_by_test_id("assets").evaluate("one => getComputedStyle(one).outlineStyle") != "none"
    page.keyboard.press(" ")
    page.keyboard.press("j")
    page.keyboard.press(" ")
    chosen = page.locator("[role=option][aria-selected=true]")
    expect(chosen).to_have_count(2)
    ids = [name.removeprefix("asset-") for name in chosen.evaluate_all("all => all.map(one => one.dataset.testid)")]
    page.keyboard.press("r")
    expect(page.get_by_test_id("toast")).to_contain_text("2 requested")
    for asset_id in ids:
        eventually(60, "headquarters answers", lambda asset_id=asset_id: edge.state(asset_id) == "ready")
    focus(page, "filter-state")
    page.keyboard.type("Ready")
    focus(page, "assets")
    expect(page.get_by_test_id(f"asset-{ids[0]}")).to_be_visible()
    page.keyboard.press("Home")
    cancelled = page.locator("[role=option]").first.get_attribute("data-testid").removeprefix("asset-")
    page.keyboard.press("c")
    expect(page.get_by_test_id("toast")).to_contain_text("1 cancelled")
    press(page, "nav-mirror")
    press(page, "mirror-start")
    assert edge.state(cancelled) == "cancelled"
    for asset_id in {*ids} - {cancelled}:
        eventually(60, "the rest arrives", lambda asset_id=asset_id: edge.state(asset_id) == "mirrored")


def test_a_service_and_the_link_are_stopped_and_started_with_keys_alone(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "olga")
    press(page, "nav-link")
    press(page, "link-pause")
    expect(page.get_by_test_id("link-state")).to_have_attribute("data-state", "paused")
    press(page, "link-resume")
    expect(page.get_by_test_id("link-state")).to_have_attribute("data-state", "up", timeout=30_000)
    press(page, "nav-services")
    press(page, "service-listener-stop")
    expect(page.get_by_test_id("service-listener-state")).to_have_attribute("data-state", "paused")
    press(page, "service-listener-start")
    expect(page.get_by_test_id("service-listener-state")).to_have_attribute("data-state", "running")
