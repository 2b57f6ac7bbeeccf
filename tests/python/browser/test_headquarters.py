"""What headquarters does: looks on as assets pass, sees who asked and got what, takes an asset back."""
import json
import re
from pathlib import Path

from playwright.sync_api import Page, expect

import damaged
from api import eventually
from conftest import OpenPage, make_users
from installation import CORE_SERVICES, Installation
from keys import press
from line import push_nothing

STAGES = ("feed", "downloader", "broadcaster", "responder")
AGE = re.compile(r"just now|\d+ (s|min|h) ago")


def delivered(main: Installation) -> str:
    """An asset that the edge asked for and has got."""
    edge = main.edge
    eventually(60, "there is an asset to ask for", lambda: edge.assets(state="available"))
    asset_id = edge.get("/api/assets?limit=1&state=available")["assets"][0]["asset_id"]
    edge.post(f"/api/assets/{asset_id}/request")
    # The mirror brings what is ready when it starts, and no more.
    eventually(60, "headquarters answers", lambda: edge.state(asset_id) in ("ready", "mirrored"))
    edge.post("/api/mirror/start")
    eventually(60, "the bytes arrive", lambda: edge.state(asset_id) == "mirrored")
    return asset_id


def test_assets_pass_the_lanes_and_who_got_what_is_told(main: Installation, open_page: OpenPage) -> None:
    asset_id = delivered(main)
    page = open_page(main.core, "ada", "#/lanes")
    for stage in STAGES:
        expect(page.get_by_test_id(f"lane-{stage}").locator("li").first).to_be_visible(timeout=60_000)
    # The others go on; what was answered stands until somebody asks again.
    tile = page.get_by_test_id("lane-responder").locator(f"a[href='#/assets/{asset_id}']")
    for words in (main.core.get(f"/api/assets/{asset_id}")["title"], "Ready to mirror", "edge-1", AGE):
        expect(tile).to_contain_text(words)
    for stage, words in (("feed", "Announced"), ("downloader", "Downloaded"), ("broadcaster", "Broadcast")):
        passed = page.get_by_test_id(f"lane-{stage}").locator("li").first
        expect(passed).to_contain_text(words)
        expect(passed).to_contain_text(AGE)
        expect(passed.locator("b")).not_to_be_empty()
    page.get_by_test_id("nav-requests").click()
    told = page.get_by_role("row").filter(has=page.locator(f"a[href='#/assets/{asset_id}']"))
    expect(told).to_contain_text("edge-1")
    expect(told).to_contain_text("Delivered", timeout=60_000)
    # What was asked for last stands first, also when the page is read anew.
    for _ in range(2):
        expect(page.locator("tbody tr").first).to_contain_text(newest_request(main))
        page.reload()
    page.get_by_test_id("nav-edges").click()
    edge = page.get_by_test_id("site-edge-1")
    cell = lambda name: edge.locator(f"td[data-label='{name}']")  # noqa: E731
    expect(cell("Last word")).to_have_text(re.compile(r"just now|ago"))
    holds = str(main.edge.get("/api/mirror")["mirrored"]["assets"])
    # A site where assets go on arriving says how it is once a minute.
    expect(cell("Holds")).to_have_text(holds, timeout=120_000)
    expect(cell("Lag")).to_have_text(re.compile(r"^[\d,]+$"))
    page.goto(f"/#/assets/{asset_id}")
    asked = page.get_by_role("region", name="Who asked for it")
    expect(asked.locator("td[data-label=Edge]")).to_have_text("edge-1")
    expect(asked.locator("td[data-label=By]")).to_have_text("command line")
    for name in ("Asked", "Delivered"):
        expect(asked.locator(f"td[data-label={name}] time")).to_be_visible()


def test_the_life_of_an_asset_is_told_with_times_at_both_sites(main: Installation, open_page: OpenPage) -> None:
    asset_id = delivered(main)
    core = open_page(main.core, "ada", f"#/assets/{asset_id}")
    edge = open_page(main.edge, "fred", f"#/assets/{asset_id}")
    when = re.compile(r"20\d\d.*\d:\d\d")

    def fact(page: Page, name: str):
        return page.locator("dl.facts > div").filter(has=page.locator("dt", has_text=re.compile(f"^{name}$"))).locator("dd")

    for name in ("Announced", "Downloaded", "Broadcast"):
        expect(fact(core, name)).to_have_text(when)
    for name in ("Broadcast", "Requested", "Sent to headquarters", "Answered", "Arrived"):
        expect(fact(edge, name)).to_have_text(when)
    expect(fact(edge, "Requested")).to_contain_text("by command line")


def newest_request(main: Installation) -> str:
    """Which asset was asked for last, as all the requests of the edge have it."""
    requests = main.core.get("/api/requests?site=edge-1")["requests"]
    newest = max(requests, key=lambda one: one["requested_at"])
    return main.core.get(f"/api/assets/{newest['asset_id']}")["title"]


def test_the_lanes_cost_no_more_than_their_previews(main: Installation, open_page: OpenPage) -> None:
    eventually(60, "pictures have passed", lambda: sum(one["has_preview"] for one in main.core.get("/api/lanes")["lanes"]["broadcaster"]) > 3)
    page = open_page(main.core, "ada", "#/")
    answers = []
    page.on("response", lambda answer: answers.append(answer))
    page.get_by_test_id("nav-lanes").click()
    expect(page.get_by_test_id("lane-broadcaster").locator("img").first).to_be_visible()
    page.wait_for_load_state("load")
    pictures = page.locator(".lanes img")
    eventually(60, "the pictures are drawn", lambda: all(pictures.evaluate_all("all => all.filter((one) => one.getBoundingClientRect().top < innerHeight).map((one) => one.complete)")))
    read = [answer for answer in answers if "/api/assets/" in answer.url]
    assert read and all(answer.url.endswith("/preview") for answer in read), [answer.url for answer in read]
    # Four lanes of twelve, some of the same assets: a picture of 6 KiB at most for each.
    assert sum(int(answer.headers["content-length"]) for answer in read) < 4 * 12 * 6 * 1024


def test_more_requests_than_a_page_has_are_read_on_demand(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.core, "vera", "#/lanes")
    if not main.core.get("/api/requests?site=edge-1")["requests"]:
        delivered(main)
    one = main.core.get("/api/requests?site=edge-1")["requests"][0]

    def answer(route) -> None:
        limit = int(route.request.url.split("limit=")[1])
        many = [{**one, "request_id": f"edge-1.{number:032x}.1", "title": f"Number {number}", "requested_at": 1_700_000_000_000 + number} for number in range(600)]
        some = many[::-1][:limit]
        route.fulfill(body=json.dumps({"requests": some, "next": "x" if limit < 600 else None, "older": True}), content_type="application/json")

    page.route("**/api/requests?*", answer)
    # A request that is made or delivered meanwhile would stand among them.
    push_nothing(page)
    page.get_by_test_id("nav-requests").click()
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(100)
    expect(rows.first).to_contain_text("Number 599")
    expect(page.get_by_test_id("requests-known")).to_have_text("the newest 100")
    press(page, "earlier-requests")
    expect(rows).to_have_count(300)
    for count in (500, 600):
        page.get_by_test_id("earlier-requests").click()
        expect(rows).to_have_count(count)
    expect(rows.last).to_contain_text("Number 0")
    expect(page.get_by_text("Older requests are not listed here")).to_be_visible()


def test_a_service_tells_how_long_it_is_up_and_how_fast_it_works(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.core, "vera", "#/services")
    card = page.get_by_test_id("service-downloader")
    expect(card).to_contain_text(re.compile(r"up for \d+ (s|min|h)"))
    expect(card).to_contain_text(re.compile(r"\d+\.\d records/s"), timeout=60_000)


def test_a_dead_letter_is_sent_again_on_the_page_and_what_comes_of_it_is_pushed(directory: Path, open_page: OpenPage) -> None:
    # They fail again.
    second = damaged.demo(directory / "letters", 2)
    try:
        core = second.core
        make_users(core)
        page = open_page(core, "olga", "#/dead-letters")
        letters = page.get_by_test_id("dead-letter")
        expect(page.get_by_text("No dead letters.")).to_be_visible()
        core.post("/api/services/responder/start")
        expect(letters).to_have_count(2, timeout=60_000)
        eventually(60, "both wait", lambda: core.get("/api/status")["dead_letters"] == 2)
        page.get_by_test_id("redrive").first.click()
        expect(page.get_by_test_id("toast")).to_contain_text("on its way again")
        expect(page.get_by_test_id("redriven")).to_have_count(1)
        # It fails again, which is a dead letter of its own, and comes by itself.
        expect(letters).to_have_count(3, timeout=60_000)
        expect(page.get_by_test_id("letters-known")).to_have_text("3 dead letters")
        expect(page.get_by_test_id("redriven")).to_contain_text("by olga")
        eventually(60, "one waits, and the new one", lambda: core.get("/api/status")["dead_letters"] == 2)
        # What it asks a site that has stopped is no complaint.
        page.close()
    finally:
        second.stop()


def test_an_edge_that_was_never_heard_of_is_told_first_and_a_revoked_one_last(main: Installation, open_page: OpenPage) -> None:
    main.core.post("/api/sites", {"site": "edge-9", "certificate_sha256": "9" * 64})
    try:
        page = open_page(main.core, "ada", "#/edges")
        rows = page.locator("[data-testid^=site-]")
        # Until edge-1 has said its first word it is as silent.
        expect(rows.first).to_contain_text("edge-9", timeout=60_000)
        expect(rows.first).to_contain_text("Never heard of")
        page.get_by_test_id("nav-home").click()
        problem = page.get_by_test_id("problems").locator(".notice", has_text="edge-9")
        expect(problem).to_contain_text("othing is heard of edge-9 from the start", timeout=60_000)
        problem.get_by_role("link", name="Edges").click()
        expect(rows.first).to_be_visible()
    finally:
        main.core.post("/api/sites/edge-9/revoke", {"reason": "it was never built"})
    page.reload()
    expect(rows.last).to_contain_text("it was never built")


def test_the_expiry_of_an_asset_is_set_and_a_withdrawn_one_is_so_at_the_edge(main: Installation, open_page: OpenPage) -> None:
    eventually(60, "there is an asset", lambda: main.edge.assets(state="available"))
    asset_id = main.edge.get("/api/assets?limit=1&state=available")["assets"][0]["asset_id"]
    page = open_page(main.core, "ada", f"#/assets/{asset_id}")
    page.get_by_test_id("expiry").click()
    page.get_by_label("Expires").fill("2099-01-01T12:00")
    page.get_by_test_id("confirm").click()
    expect(page.get_by_text("2099")).to_be_visible()
    # Every edge is told anew until when.
    eventually(60, "it is on offer again", lambda: main.core.state(asset_id) == "broadcast")
    page.get_by_test_id("withdraw").click()
    page.get_by_label("Reason").fill("shows a face")
    page.get_by_test_id("confirm").click()
    expect(page.get_by_test_id("state")).to_have_attribute("data-state", "withdrawn")
    eventually(60, "the edge hears of it", lambda: main.edge.state(asset_id) == "withdrawn")
    entries = main.core.get("/api/audit?user=ada&limit=50")["entries"]
    assert {"asset.withdraw", "asset.expiry"} <= {entry["action"] for entry in entries}


def test_the_overview_leads_to_every_service_and_all_assets_of_a_state(main: Installation, open_page: OpenPage) -> None:
    core = main.core
    eventually(60, "assets are on offer", lambda: core.assets(state="broadcast"))
    page = open_page(core, "vera", "#/home")
    for service in CORE_SERVICES:
        tile = page.get_by_test_id(f"service-{service}")
        expect(tile.get_by_test_id(f"service-{service}-state")).not_to_be_empty()
        # How long it is up, or what it says of itself.
        expect(tile.locator(".quiet")).to_have_text(re.compile(r"\w"))
    expect(page.get_by_test_id("service-feed-state")).to_have_attribute("data-state", "running")
    offered = page.locator("a.tile[href='#/assets/?state=broadcast']")
    expect(offered).to_contain_text("Broadcast")
    # It counts on as assets pass.
    before = int(offered.locator("b").inner_text().replace(",", ""))
    expect(offered.locator("b")).not_to_have_text(f"{before:,}")
    assert int(offered.locator("b").inner_text().replace(",", "")) > before > 0
    for service, title in (("feed", "Lanes"), ("responder", "Requests"), ("depot", "Services")):
        page.get_by_test_id(f"service-{service}").click()
        expect(page.locator("h1")).to_have_text(title)
        page.get_by_test_id("nav-home").click()
        expect(page.locator("h1")).to_have_text("Overview")
    offered.click()
    expect(page.get_by_test_id("filter-state")).to_have_value("broadcast")
    expect(page.locator("[role=option]").first).to_have_attribute("data-state", "broadcast")


def test_a_service_tells_its_last_error_and_how_much_waits_for_it(main: Installation, open_page: OpenPage) -> None:
    # One in which nothing is wrong is shown with an answer that says something was.
    told = main.core.get("/api/services")
    for one in told["services"]:
        if one["service"] == "downloader":
            one |= {"last_error": "sheet 7 cannot be had: 404", "last_error_at": one["reported_at"] - 125_000, "lag": 1234}
    page = open_page(main.core, "vera", "#/home")
    page.route("**/api/services", lambda route: route.fulfill(json=told))
    push_nothing(page)
    page.get_by_test_id("nav-services").click()
    card = page.get_by_test_id("service-downloader")
    expect(card).to_contain_text(re.compile(r"Last error, 2 min ago: sheet 7 cannot be had: 404"))
    expect(card).to_contain_text("lag 1,234")
    other = page.get_by_test_id("service-depot")
    expect(other).to_be_visible()
    expect(other).not_to_contain_text("Last error")
    expect(other).not_to_contain_text("lag")


def test_the_last_lines_of_a_service_are_read_on_the_page_as_they_come(main: Installation, open_page: OpenPage) -> None:
    page: Page = open_page(main.core, "vera", "#/services", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_test_id("service-feed-logs").click()
    log = page.get_by_test_id("log-feed")
    lines = log.locator("li")
    expect(lines.first).to_be_visible()
    expect(log).to_contain_text("started")
    # A level that is set is itself a line, which comes without the page being read again.
    main.core.post("/api/services/feed/log-level", {"level": "debug"})
    try:
        expect(log).to_contain_text("log level set")
    finally:
        main.core.post("/api/services/feed/log-level", {"level": None})
    log.get_by_role("button", name="Copy").click()
    expect(page.get_by_test_id("toast")).to_contain_text("Copied")
    assert "INFO" in page.evaluate("navigator.clipboard.readText()")
    log.get_by_label("Warnings and errors only").check()
    expect(lines.filter(has_text="log level set")).to_have_count(0)


def test_the_audit_tells_the_operator_who_did_what_from_where(main: Installation, open_page: OpenPage) -> None:
    page: Page = open_page(main.core, "olga", "#/audit")
    expect(page.get_by_test_id("audit-row").first).to_be_visible()
    expect(page.get_by_test_id("audit-row").first).to_contain_text("127.0.0.1")
    # What somebody does meanwhile comes by itself.
    main.core.post("/api/services/feed/log-level", {"level": None})
    expect(page.get_by_test_id("audit-row").first).to_contain_text("service.log_level")
    expect(page.get_by_test_id("audit-row").first).to_contain_text("done")
    page.get_by_role("searchbox").fill("nobody did this")
    expect(page.get_by_test_id("audit-row")).to_have_count(0)
