"""Every view, light and dark, wide and on a phone: axe-core finds nothing."""
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from api import eventually
from conftest import OpenPage
from installation import Installation

EDGE = ("home", "assets", "delivered", "mirror", "link", "set-up", "services", "dead-letters", "audit", "users")
CORE = ("home", "lanes", "assets", "requests", "edges", "services", "dead-letters", "audit", "users")
PHONE = {"width": 360, "height": 740}


def violations(page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{page.url}: {one['id']} ({one['impact']}): {node['html'][:160]}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["edge-1", "core"])
def test_axe_finds_nothing_in_any_view(main: Installation, open_page: OpenPage, name: str, scheme: str) -> None:
    site = main.sites[name]
    eventually(60, "there are assets", lambda: site.get("/api/assets?limit=1")["total"] > 3)
    page = open_page(site, "olga", color_scheme=scheme, reduced_motion="reduce")
    found: list[str] = []
    for view in EDGE if name != "core" else CORE:
        page.get_by_test_id(f"nav-{view}").click()
        expect(page.locator("h1")).to_be_visible()
        found += violations(page)
    page.get_by_test_id("nav-services").click()
    page.get_by_test_id("service-viewer-logs").click()
    expect(page.get_by_test_id("log-viewer").locator("li").first).to_be_visible()
    found += violations(page)
    asset = site.get("/api/assets?limit=1")["assets"][0]["asset_id"]
    page.goto(f"/#/assets/{asset}")
    expect(page.get_by_test_id("state")).to_be_visible()
    found += violations(page)
    page.set_viewport_size(PHONE)
    found += violations(page)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_at_the_door(main: Installation, open_page: OpenPage, scheme: str) -> None:
    page = open_page(main.edge, None, color_scheme=scheme)
    expect(page.get_by_test_id("sign-in")).to_be_visible()
    found = violations(page)
    assert not found, "\n".join(found)


def test_no_view_is_wider_than_a_phone(main: Installation, open_page: OpenPage) -> None:
    for site, views in ((main.edge, EDGE), (main.core, CORE)):
        page = open_page(site, "olga", viewport=PHONE)
        for view in views:
            page.goto(f"/#/{view}")
            expect(page.locator("h1")).to_be_visible()
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= PHONE["width"], f"{view} of {site.name} is {wide} px wide"
