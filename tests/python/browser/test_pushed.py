"""What is pushed to an open list of assets, also while it is read, has its place there; no old answer replaces a newer one."""
import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

import catalogue
import installation
from api import eventually
from conftest import OpenPage, make_users
from installation import Installation
from line import push, push_nothing, wait_for_stream

# More than the site pushes at once, and fewer than a page of the listing has.
ARRIVING = 240
# So that all rows of a list are built.
TALL = {"width": 1280, "height": 15_500}
FIRST = 1_700_000_000_000


def shown(page: Page) -> list[str]:
    """The ids of the rows, from above."""
    rows = page.locator("[role=option]").evaluate_all("all => all.map((one) => [Number(one.dataset.index), one.dataset.testid])")
    return [name.removeprefix("asset-") for _, name in sorted(rows)]


def test_what_arrives_all_at_once_is_all_in_the_list_that_was_open(directory: Path, open_page: OpenPage) -> None:
    """The site pushes a hundred at once, in the order of their ids and not of their times."""
    source = catalogue.many(directory / "arriving-files", ARRIVING)
    settings = '[feed]\ninterval = "300ms"\nbatch = 10\n'
    running = installation.demo(directory / "arriving", catalogue=source, core_settings=settings)
    try:
        edge = running.edge
        edge.post("/api/services/listener/stop")
        make_users(edge)
        eventually(60, "listener pauses", lambda: edge.service("listener")[0]["state"] == "paused")
        eventually(120, "all are on offer", lambda: running.core.get("/api/assets?limit=1")["by_state"].get("broadcast") == ARRIVING)
        before = edge.get("/api/assets?limit=1")["total"]
        assert before < ARRIVING / 2
        page = open_page(edge, "fred", "#/link", viewport=TALL)
        wait_for_stream(page)
        page.get_by_test_id("nav-assets").click()
        expect(page.get_by_test_id("total")).to_have_text(f"{before} known")
        reads: list[str] = []
        page.on("request", lambda request: "/api/assets?" in request.url and reads.append(request.url))
        edge.post("/api/services/listener/start")
        expect(page.get_by_test_id("total")).to_have_text(f"{ARRIVING} known", timeout=60_000)
        known = [one["asset_id"] for one in edge.assets()]
        eventually(20, "all are in the list, newest first", lambda: shown(page) == known)
        assert not reads
        page.close()
    finally:
        running.stop()


class Listing:
    """A made-up listing of an edge, of which a page is answered when the test says so."""

    def __init__(self, main: Installation, page: Page):
        self.page = page
        self.asked: list[Route] = []
        eventually(60, "there is an asset", lambda: main.edge.get("/api/assets?limit=1")["total"])
        self._like = main.edge.get("/api/assets?limit=1")["assets"][0]
        # A list that is opened while the stream is there is read once.
        push_nothing(page)
        page.route("**/api/assets?*", lambda route: self.asked.append(route))
        page.get_by_test_id("nav-assets").click()

    def asset(self, number: int, **more: Any) -> dict[str, Any]:
        """The greater its number, the newer it is."""
        own = {"asset_id": f"{number:032x}", "title": f"Number {number}", "broadcast_at": FIRST + number, "has_preview": False}
        return {**self._like, "state": "available", **own, **more}

    def push(self, *assets: dict[str, Any]) -> None:
        push(self.page, "assets", {"assets": assets})

    def wait_for_asking(self, after: str | None = None) -> list[Route]:
        """What the page asks for behind a place, as soon as it does."""

        def of(route: Route) -> bool:
            return ("after=" in route.request.url) == (after is not None)

        # Only while one waits for the page is anything heard of it.
        eventually(20, f"the page asks for what is behind {after}", lambda: self.page.wait_for_timeout(100) or any(map(of, self.asked)))
        return list(filter(of, self.asked))

    def answer(self, numbers: range, after: str | None, more: str | None) -> None:
        """Answers what is asked for behind a place."""
        asked = self.wait_for_asking(after)
        body = json.dumps({"assets": [self.asset(one) for one in numbers], "next": more, "total": 1000, "by_state": {"available": 1000}})
        for route in asked:
            self.asked.remove(route)
            route.fulfill(body=body, content_type="application/json")

    def numbers(self) -> list[int]:
        return [int(one, 16) for one in shown(self.page)]


@pytest.fixture
def listing(main: Installation, open_page: OpenPage) -> Listing:
    return Listing(main, open_page(main.edge, "fred", "#/link", viewport={"width": 1280, "height": 4000}))


def test_what_is_pushed_has_its_place_among_the_rows_and_not_behind_the_last(listing: Listing) -> None:
    listing.answer(range(100, 50, -10), None, "x")
    eventually(20, "the first rows are there", lambda: listing.numbers() == [100, 90, 80, 70, 60])
    listing.push(*map(listing.asset, (55, 75, 110, 5, 105)), listing.asset(80, state="requested"))
    assert listing.numbers() == [110, 105, 100, 90, 80, 75, 70, 60]
    expect(listing.page.get_by_test_id(f"asset-{80:032x}")).to_have_attribute("data-state", "requested")
    # What is behind them comes with the rest, or is pushed while that is read; 45 is newer than the answer knows.
    listing.push(listing.asset(45), listing.asset(30, state="requested"))
    listing.answer(range(50, 0, -10), "x", None)
    eventually(20, "the rest is there", lambda: len(listing.numbers()) > 8)
    assert listing.numbers() == [110, 105, 100, 90, 80, 75, 70, 60, 55, 50, 45, 40, 30, 20, 10, 5]
    expect(listing.page.get_by_test_id(f"asset-{30:032x}")).to_have_attribute("data-state", "requested")
    # Now that all is read, the last place is one too.
    listing.push(listing.asset(1))
    assert listing.numbers()[-1] == 1


def test_what_is_pushed_while_the_list_is_read_is_in_it(listing: Listing) -> None:
    listing.wait_for_asking()
    listing.push(listing.asset(200), listing.asset(75), listing.asset(80, state="requested"))
    listing.answer(range(100, 50, -10), None, None)
    eventually(20, "the rows are there", lambda: listing.numbers())
    assert listing.numbers() == [200, 100, 90, 80, 75, 70, 60]
    expect(listing.page.get_by_test_id(f"asset-{80:032x}")).to_have_attribute("data-state", "requested")


def test_what_is_pushed_has_its_place_in_another_order_too_and_moves_nothing_that_is_looked_at(listing: Listing) -> None:
    page = listing.page
    listing.answer(range(100, 0, -1), None, None)
    eventually(20, "the rows are there", lambda: len(listing.numbers()) > 20)
    page.get_by_test_id("sort").select_option("at asc")
    listing.answer(range(1000, 2000, 2), None, None)
    eventually(20, "they are in order", lambda: listing.numbers()[:2] == [1000, 1002])
    page.set_viewport_size({"width": 1280, "height": 800})
    box = page.get_by_test_id("assets")
    box.evaluate("one => { one.scrollTop = 6000; }")
    looked_at = page.get_by_test_id(f"asset-{1200:032x}")
    place = looked_at.bounding_box()
    # One far above, one far below.
    listing.push(listing.asset(1801), listing.asset(1051))
    expect(looked_at).to_have_attribute("data-index", "101")
    assert looked_at.bounding_box() == place


def test_a_late_answer_to_an_earlier_search_of_the_audit_replaces_nothing(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.core, "olga", "#/home")
    late: list[Route] = []

    def entries(user: str) -> dict[str, Any]:
        one = {"at": FIRST, "id": user, "user": user, "role": "field", "from": "::1", "action": "link.pause", "target": None}
        return {"entries": [{**one, "title": None, "outcome": "done", "detail": None}], "next": None}

    def answer(route: Route) -> None:
        if route.request.url.endswith("user=a&limit=100"):
            late.append(route)
        else:
            route.fulfill(json=entries("abby" if "user=ab&" in route.request.url else "everybody"))

    page.route("**/api/audit?*", answer)
    push_nothing(page)
    page.get_by_test_id("nav-audit").click()
    row = page.get_by_test_id("audit-row")
    expect(row).to_contain_text("everybody")
    user = page.get_by_label("Only this user")
    user.fill("a")
    # Only while one waits for the page is anything heard of it.
    eventually(20, "the first search is asked for", lambda: page.wait_for_timeout(100) or late)
    user.fill("ab")
    expect(row).to_contain_text("abby")
    with page.expect_response(lambda response: response.url.endswith("user=a&limit=100")) as answered:
        late[0].fulfill(json=entries("anna"))
    answered.value.finished()
    # Had the page taken it, it would be drawn by now.
    page.wait_for_timeout(200)
    assert "abby" in row.inner_text()
