"""What is not known yet, and what could not be read, is not shown as none, nothing or down."""
import json
import re
from contextlib import suppress

import pytest
from playwright.sync_api import Error, Page, Route, expect

from api import eventually
from conftest import OpenPage
from installation import Installation
from watched import Watch

# What each view said of a site that had not answered.
WRONG = {
    "home": "None yet",
    "assets": "0 known",
    "delivered": "0 here",
    "mirror": "Nothing waits to be fetched",
    "link": "Down",
}
# What stands in place of what each view could not read.
NOT_KNOWN = re.compile("not known[.]$", re.IGNORECASE)
DISK = "[data-testid=disk]"
UNKNOWN = {
    "home": (DISK, "section[aria-labelledby=services-title] > p", "section[aria-labelledby=assets-title] > p"),
    "delivered": (DISK,),
    "mirror": (DISK, "[data-testid=mirror-estimate]"),
    "link": ("main .lead",),
}
# Who is here is known; what this site holds and does is not.
KNOWN = ("/api/session", "/api/site")


def withhold(page: Page, answer) -> None:
    def handle(route: Route) -> None:
        if any(route.request.url.endswith(path) for path in KNOWN):
            route.continue_()
        else:
            answer(route)

    page.route("**/api/**", handle)


def refuse(route: Route) -> None:
    route.fulfill(
        status=503,
        content_type="application/problem+json",
        body=json.dumps({"title": "Service Unavailable", "status": 503, "detail": "the tables are away", "hint": "wait"}),
    )


@pytest.mark.parametrize("view", WRONG)
def test_what_could_not_be_read_is_told_and_is_not_nothing(main: Installation, open_page: OpenPage, watch: Watch, view: str) -> None:
    watch.expect("503")
    page = open_page(main.edge, "fred", f"#/{view}")
    expect(page.locator("h1")).to_be_visible()
    withhold(page, refuse)
    page.reload()
    problems = page.locator("main .notice").get_by_text("the tables are away")
    # One outage is told once, however many readings of the view it takes with it.
    expect(problems).to_have_count(1)
    expect(page.get_by_role("button", name="Try again")).to_have_count(1)
    for place in UNKNOWN.get(view, ()):
        expect(page.locator(place)).to_have_text(NOT_KNOWN)
    expect(page.locator("main").get_by_text(WRONG[view])).to_have_count(0)
    page.unroute("**/api/**")

    def read_again() -> bool:
        if problems.count():
            # The page also reads again by itself, and the button is gone.
            with suppress(Error):
                page.get_by_role("button", name="Try again").first.click(timeout=500)
        return problems.count() == 0

    eventually(60, "all is read", read_again)
    expect(page.locator("main").get_by_text(NOT_KNOWN)).to_have_count(0)
    expect(page.locator("main").get_by_text("…", exact=True)).to_have_count(0)
    if view in ("home", "delivered", "mirror"):
        expect(page.get_by_test_id("disk")).to_contain_text("Assets take")


@pytest.mark.parametrize("view", WRONG)
def test_what_is_not_known_yet_is_not_nothing(main: Installation, open_page: OpenPage, view: str) -> None:
    page = open_page(main.edge, "fred", f"#/{view}")
    expect(page.locator("h1")).to_be_visible()
    waiting: list[Route] = []
    withhold(page, waiting.append)
    page.reload()
    unknown = page.locator("main").get_by_text("…", exact=True)
    expect(unknown.first).to_be_visible()
    expect(page.locator("main").get_by_text(WRONG[view])).to_have_count(0)
    eventually(60, "it has asked", lambda: unknown.count() and waiting)
    # What waits is let through.
    page.unroute("**/api/**")
    expect(unknown).to_have_count(0)
