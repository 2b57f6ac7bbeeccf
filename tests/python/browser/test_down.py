"""An edge whose headquarters cannot be reached, after a start of its machine too: what it knows, and as of when."""
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

import installation
from api import eventually
from conftest import OpenPage, make_users
from installation import Installation
from test_keyboard import press

ASKED = 3


@pytest.fixture(scope="module")
def cut_off(directory: Path) -> Iterator[Installation]:
    """It was connected, has got two assets, and asks for more now."""
    first = installation.demo(directory / "cut-off", core_settings='[feed]\ninterval = "500ms"\n')
    try:
        edge = first.edge
        make_users(edge)
        eventually(60, "assets have arrived", lambda: edge.get("/api/assets?limit=1")["total"] > 6)
        ids = [one["asset_id"] for one in edge.get("/api/assets?limit=6")["assets"]]
        for asset_id in ids[:2]:
            edge.post(f"/api/assets/{asset_id}/request")
        eventually(60, "headquarters has answered", lambda: len(edge.assets(state="ready")) == 2)
        edge.post("/api/mirror/start")
        eventually(60, "the bytes arrive", lambda: len(edge.assets(state="mirrored")) == 2)
        eventually(60, "the link has told of its last contact", lambda: edge.get("/api/link")["last_contact_at"])
    finally:
        first.stop()
    alone = installation.edge_alone(first, core="kafka://127.0.0.1:1")
    try:
        eventually(60, "it is down", lambda: alone.edge.get("/api/link")["state"] == "down")
        yield alone
    finally:
        alone.stop()


def test_the_link_says_that_it_is_down_since_when_why_and_what_to_do(cut_off: Installation, open_page: OpenPage) -> None:
    edge = cut_off.edge
    page = open_page(edge, "fred", "#/link")
    expect(page.get_by_test_id("link-state")).to_have_attribute("data-state", "down")
    expect(page.get_by_test_id("link-state")).to_have_text("Down")
    card = page.locator("section.card").first
    expect(card.locator(".lead")).to_contain_text("127.0.0.1:1")
    expect(card).to_contain_text("It goes on by itself", ignore_case=True)
    expect(card).to_contain_text("ago")
    expect(card).to_contain_text("Pause it only if it is to stay away")
    page.get_by_test_id("nav-home").click()
    problems = page.get_by_test_id("problems")
    expect(problems).to_contain_text("link carries nothing", timeout=60_000)
    problems.get_by_role("link", name="Link", exact=True).click()
    expect(page.get_by_test_id("link-state")).to_be_visible()


def test_what_comes_in_goes_first_on_a_route_of_ones_own(cut_off: Installation, open_page: OpenPage) -> None:
    page = open_page(cut_off.edge, "fred", "#/link")
    first = page.get_by_test_id("route-readings-live-first")
    expect(first).to_have_attribute("aria-pressed", "false", timeout=60_000)
    expect(page.get_by_test_id("route-requests-live-first")).to_have_count(0)
    for pressed in ("true", "false"):
        press(page, "route-readings-live-first")
        expect(first).to_have_attribute("aria-pressed", pressed)
        expect(page.get_by_test_id("route-readings-first")).to_have_count(1 if pressed == "true" else 0)


def test_a_route_of_ones_own_goes_in_another_class_and_as_configured_again(cut_off: Installation, open_page: OpenPage) -> None:
    page = open_page(cut_off.edge, "fred", "#/link")
    now = page.get_by_test_id("route-readings-in")
    expect(now).to_have_text("· in class: Sensor readings", timeout=60_000)
    expect(page.get_by_test_id("route-requests-class")).to_have_count(0)
    # Its first letters choose what a list has.
    for letters, said in (("Small", "Small pictures"), ("as", "Sensor readings")):
        press(page, "route-readings-class")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("Class of readings")
        page.keyboard.type(letters)
        press(page, "confirm")
        expect(dialog).to_have_count(0)
        expect(now).to_have_text(f"· in class: {said}")
    assert "class/readings" not in cut_off.edge.get("/api/link")["limits"]["set"]


def test_every_view_says_as_of_when_it_knows_what_headquarters_told(cut_off: Installation, open_page: OpenPage) -> None:
    page = open_page(cut_off.edge, "olga", "#/home")
    views = page.locator("[data-testid^=nav-]")
    expect(views.first).to_be_visible()
    for view in views.evaluate_all("all => all.map(one => one.dataset.testid)"):
        page.get_by_test_id(view).click()
        expect(page.get_by_test_id(view)).to_have_attribute("aria-current", "page")
        expect(page.locator("h1")).to_be_visible()
        if view == "nav-link":
            # It says so in its own words.
            expect(page.get_by_text("Headquarters last answered")).to_be_visible()
        else:
            expect(page.get_by_test_id("as-of")).to_contain_text("is as of")


def test_what_is_here_is_seen_and_what_is_asked_for_waits(cut_off: Installation, open_page: OpenPage) -> None:
    edge = cut_off.edge
    page = open_page(edge, "fred", "#/delivered")
    expect(page.get_by_test_id("gallery").locator("a")).to_have_count(2)
    page.get_by_test_id("nav-assets").click()
    page.get_by_test_id("filter-state").select_option("available")
    expect(page.get_by_test_id("assets")).to_have_attribute("aria-busy", "false")
    rows = page.locator("[data-testid^=asset-][data-state=available]")
    expect(rows.nth(ASKED)).to_be_visible()
    asked = rows.evaluate_all("all => all.map(one => one.dataset.testid)")[:ASKED]
    for name in asked:
        page.get_by_test_id(name).click()
    page.get_by_test_id("request").click()
    expect(page.get_by_test_id("toast")).to_contain_text(f"{ASKED} requested")
    page.get_by_test_id("filter-state").select_option("")
    for name in asked:
        expect(page.get_by_test_id(name)).to_have_attribute("data-state", "requested", timeout=60_000)
    page.get_by_test_id("nav-link").click()
    waiting = page.locator("dl.facts > div").filter(has_text="Waiting here")
    # How many is known to who has once counted with headquarters; that nothing waits would be false.
    expect(waiting.locator("dd")).to_have_text(re.compile(r"not known yet|\d+ records?"))
