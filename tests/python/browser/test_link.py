"""The link's page: its routes, what it may use, how long the site can wait, and how it was."""
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Page, expect

from api import eventually
from conftest import OpenPage
from installation import Installation
from line import Line, push, push_nothing
from test_keyboard import focus, press


def answer(page: Page, text: str) -> None:
    """Fills in the dialog that is open."""
    page.locator("dialog input").fill(text)
    page.get_by_test_id("confirm").click()


def limits(main: Installation) -> dict:
    return main.edge.get("/api/link")["limits"]


def test_a_route_is_paused_and_resumed_and_the_others_go_on(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "fred", "#/link")
    state = page.get_by_test_id("route-broadcasts-state")
    expect(page.get_by_test_id("routes").locator("li")).to_have_count(4, timeout=60_000)
    page.get_by_test_id("route-broadcasts-pause").click()
    try:
        expect(state).to_have_text("Paused")
        eventually(60, "headquarters' route rests", lambda: [one["name"] for one in limits(main)["routes"] if one["paused"]] == ["broadcasts"])
        expect(page.get_by_test_id("route-requests-state")).not_to_have_text("Paused")
    finally:
        page.get_by_test_id("route-broadcasts-resume").click()
    expect(state).not_to_have_text("Paused")


def test_limits_are_set_in_words_and_taken_back(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "fred", "#/link")
    # Beside the cap stands what the busiest minute carried, once something has crossed.
    cap = re.compile(r"at most 1\.9 MiB/s(; in the last hour's busiest minute [\d.,]+ (B|KiB|MiB)/s crossed)?$")
    for key, text, shown in (("cap", "2MB", cap), ("per_day", "500MB", "at most 477 MiB"), ("per_month", "5GB", "at most 4.7 GiB")):
        value = page.get_by_test_id(f"limit-{key}-value")
        page.get_by_test_id(f"limit-{key}-change").click()
        answer(page, text)
        expect(value).to_have_text(shown)
        expect(page.get_by_test_id(f"limit-{key}")).to_contain_text("set by fred")
    expect(page.get_by_test_id("spent")).to_contain_text("of 477 MiB")
    page.get_by_test_id("limit-windows-change").click()
    answer(page, "mon-sun 00:00-24:00; sat 10:00-11:00")
    expect(page.get_by_test_id("limit-windows-value")).to_have_text("00:00-24:00; sat 10:00-11:00 (UTC)")
    page.get_by_test_id("limit-zone-change").click()
    answer(page, "Europe/Berlin")
    expect(page.get_by_test_id("limit-zone-value")).to_have_text("Europe/Berlin")
    expect(page.get_by_test_id("limit-windows-value")).to_have_text("00:00-24:00; sat 10:00-11:00 (Europe/Berlin)")
    expect(page.get_by_test_id("limit-share-value")).to_have_text("5 % each, at least")
    page.get_by_test_id("limit-share-change").click()
    answer(page, "7")
    expect(page.get_by_test_id("limit-share-value")).to_have_text("7 % each, at least")
    page.get_by_test_id("limit-metered-change").click()
    expect(page.get_by_test_id("limit-metered-value")).to_contain_text("yes")
    expect(page.get_by_test_id("class-assets")).to_contain_text("Held")
    expect(page.get_by_test_id("held")).to_contain_text("nobody has confirmed")
    page.get_by_test_id("allow").click()
    answer(page, "20MB")
    expect(page.get_by_test_id("limit-metered-value")).to_contain_text("19.1 MiB of bulk")
    for key in ("cap", "per_day", "per_month", "windows", "zone", "share", "metered"):
        page.get_by_test_id(f"as-configured-{key}").click()
        expect(page.get_by_test_id(f"as-configured-{key}")).to_have_count(0)
    main.edge.post("/api/link", {"allow": "0B"})
    expect(page.get_by_test_id("limit-cap-value")).to_have_text(re.compile("^no limit"))
    expect(page.get_by_test_id("limit-windows-value")).to_have_text("always")
    expect(page.get_by_test_id("limit-metered-value")).to_have_text("no")


def test_what_cannot_be_set_is_said_and_changes_nothing(main: Installation, open_page: OpenPage, watch) -> None:
    watch.expect("400")
    page = open_page(main.edge, "fred", "#/link")
    before = limits(main)["cap"]
    page.get_by_test_id("limit-cap-change").click()
    answer(page, "fast")
    expect(page.get_by_test_id("toast")).to_contain_text("cap")
    assert limits(main)["cap"] == before


def test_how_it_was_is_drawn_told_and_pushed(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "vera", "#/link")
    expect(page.get_by_test_id("limit-cap-change")).to_have_count(0)
    expect(page.get_by_test_id("buffer")).to_contain_text("This site holds what waits", timeout=60_000)
    page.get_by_test_id("span-hour").click()
    expect(page.get_by_test_id("span-hour")).to_have_attribute("aria-pressed", "true")
    words = page.get_by_test_id("chart-lag-words")
    expect(words).not_to_contain_text("Nothing is known", timeout=90_000)
    chart = page.get_by_test_id("chart-lag")
    chart.locator("summary").click()
    first = chart.locator("tbody tr").count()
    assert first >= 1
    # The next minute's point is told of, and only then is anything asked for.
    with page.expect_request(lambda request: "/api/link/history" in request.url, timeout=90_000) as asked:
        pass
    at = main.edge.get("/api/link/history?span=hour")["at"]
    assert asked.value.url.endswith("span=hour") and len(at) == 60
    page.get_by_test_id("chart-route").select_option("requests")
    expect(words).not_to_contain_text("Nothing is known")


def test_a_route_is_paused_and_a_limit_set_with_keys_alone(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "fred", "#/link")
    expect(page.get_by_test_id("route-status-pause")).to_be_visible(timeout=60_000)
    press(page, "route-status-pause")
    expect(page.get_by_test_id("route-status-state")).to_have_text("Paused")
    press(page, "route-status-resume")
    expect(page.get_by_test_id("route-status-state")).not_to_have_text("Paused")
    press(page, "limit-cap-change")
    expect(page.locator("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    focus(page, "span-month")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("span-month")).to_have_attribute("aria-pressed", "true")


def test_no_answer_from_headquarters_is_said_with_as_of_when(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "fred", "#/link")
    expect(page.get_by_test_id("link-state")).to_have_attribute("data-state", "up", timeout=60_000)
    page.get_by_test_id("link-pause").click()
    try:
        expect(page.locator("section", has=page.get_by_test_id("routes"))).to_contain_text("what waits at headquarters is as of")
    finally:
        page.get_by_test_id("link-resume").click()
    expect(page.get_by_test_id("link-state")).to_have_attribute("data-state", "up", timeout=60_000)


def fact(page: Page, name: str):
    return page.locator("dl.facts > div", has=page.locator("dt", has_text=re.compile(f"^{name}$"))).locator("dd")


def test_the_word_of_the_link_that_works_counts_and_not_that_of_its_standby(main: Installation, open_page: OpenPage) -> None:
    told = main.edge.get("/api/link")
    [works] = told["instances"]
    works |= {"state": "running", "counters": {**works["counters"], "carried_down": 7, "carried_up": 5}, "last_error": None}
    standby = {**works, "instance": "standby", "state": "waiting", "reported_at": works["reported_at"] + 3000, "counters": {}, "gauges": {}}
    mirror = main.edge.get("/api/mirror")
    [moves] = mirror["instances"]
    moves |= {"state": "running", "gauges": {**moves["gauges"], "bytes_total": 4096, "bytes_done": 1024}}
    idle = {**moves, "instance": "standby", "state": "waiting", "detail": "another instance works", "reported_at": moves["reported_at"] + 3000, "gauges": {}}
    page = open_page(main.edge, "vera", "#/home")
    push_nothing(page)
    page.route("**/api/link", lambda route: route.fulfill(json=told))
    for instances in ([works, standby], [standby, works]):
        told["instances"] = instances
        page.get_by_test_id("nav-link").click()
        expect(fact(page, "Carried to this site")).to_have_text("7 records since it started")
        expect(fact(page, "Carried to headquarters")).to_have_text("5 records since it started")
        page.get_by_test_id("nav-home").click()
    page.route("**/api/mirror", lambda route: route.fulfill(json={**mirror, "desired": "running", "instances": [moves, idle]}))
    page.get_by_test_id("nav-mirror").click()
    expect(page.get_by_test_id("mirror-state")).to_have_attribute("data-state", "running")
    expect(page.get_by_test_id("mirror-progress")).to_contain_text("1.0 KiB of 4.0 KiB")


ANSWERED = re.compile(r"^last answered (just now|\d+ s ago)$")


def test_a_link_that_is_up_says_when_headquarters_last_answered(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "vera", "#/link")
    expect(page.get_by_test_id("link-state")).to_have_attribute("data-state", "up", timeout=60_000)
    expect(page.get_by_test_id("last-answered")).to_have_text(ANSWERED)


def test_a_link_that_goes_down_under_an_open_page_is_shown_so_and_as_of_when(main: Installation, open_page: OpenPage) -> None:
    eventually(60, "the link is up", lambda: main.edge.get("/api/link")["state"] == "up")
    told = main.edge.get("/api/link")
    page = open_page(main.edge, "vera", "#/home")
    push_nothing(page)
    page.get_by_test_id("nav-link").click()
    expect(page.get_by_test_id("last-answered")).to_have_text(ANSWERED)
    last = told["last_contact_at"] - 95_000
    down = {"state": "down", "why": "the core does not answer", "remedy": "it goes on by itself", "last_contact_at": last, "down_since": last}
    push(page, "link", {**told, **down})
    expect(page.get_by_test_id("link-state")).to_have_text("Down")
    expect(page.locator(".lead").first).to_have_text("the core does not answer.")
    expect(fact(page, "Headquarters last answered")).to_have_text("1 min ago")
    expect(fact(page, "Headquarters last answered").locator("time")).to_have_attribute("datetime", iso(last))


@pytest.mark.real
@pytest.mark.parametrize("end", [Line.cut, Line.stall])
def test_a_running_link_that_is_cut_off_is_shown_so_and_as_of_when(main: Installation, open_page: OpenPage, end: Callable[[Line], None]) -> None:
    page = open_page(main.edge, "vera", "#/link")
    state = page.get_by_test_id("link-state")
    expect(state).to_have_attribute("data-state", "up", timeout=120_000)
    expect(page.get_by_test_id("last-answered")).to_have_text(ANSWERED)
    assert main.line
    end(main.line)
    cut_at = time.time() * 1000
    try:
        # Of a line that says nothing it is known once an answer is overdue.
        expect(state).to_have_attribute("data-state", "down", timeout=200_000)
        print(f"the page says so after {time.time() - cut_at / 1000:.0f} s")
        # The link itself is well.
        assert main.edge.service("link")[0]["state"] in ("running", "waiting")
        last = main.edge.get("/api/link")["last_contact_at"]
        assert last < cut_at + 5000
        expect(page.get_by_test_id("last-answered").locator("time")).to_have_attribute("datetime", iso(last))
        page.get_by_test_id("nav-assets").click()
        expect(page.get_by_test_id("as-of").locator("time")).to_have_attribute("datetime", iso(last))
        expect(page.get_by_test_id("as-of")).to_contain_text("The link to headquarters is down. What this site knows of headquarters is as of")
    finally:
        main.line.mend()
    page.get_by_test_id("nav-link").click()
    expect(state).to_have_attribute("data-state", "up", timeout=150_000)
    expect(page.get_by_test_id("last-answered")).to_have_text(ANSWERED)


def iso(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
