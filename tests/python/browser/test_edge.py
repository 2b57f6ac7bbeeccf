"""What a field team does, in the order in which it does it."""
import re
from urllib.parse import quote

from playwright.sync_api import Page, expect

from api import eventually
from conftest import OpenPage
from installation import Installation

ROWS = "[data-testid^=asset-]"


def row(page: Page, asset_id: str):
    return page.get_by_test_id(f"asset-{asset_id}")


def test_assets_arrive_without_the_page_being_read_again(main: Installation, field_page: Page) -> None:
    field_page.get_by_test_id("nav-assets").click()
    expect(field_page.locator(ROWS).first).to_be_visible()
    before = main.edge.get("/api/assets?limit=1")["total"]
    eventually(60, "more assets arrive", lambda: main.edge.get("/api/assets?limit=1")["total"] > before + 3)
    newest = main.edge.get("/api/assets?limit=1")["assets"][0]["asset_id"]
    expect(row(field_page, newest)).to_be_visible()


def test_a_search_finds_by_title_and_a_state_narrows(main: Installation, field_page: Page) -> None:
    wanted = main.edge.get("/api/assets?limit=1")["assets"][0]
    field_page.get_by_test_id("nav-assets").click()
    field_page.get_by_test_id("search").fill(wanted["title"])
    expect(row(field_page, wanted["asset_id"])).to_be_visible()
    expect(field_page.get_by_test_id("total")).to_contain_text("found")
    expect(field_page.get_by_test_id("assets")).to_have_attribute("aria-busy", "false")
    changed = field_page.get_by_test_id("show-changed")

    def all_are_found() -> bool:
        # One that has arrived since the list was read is shown on demand.
        if changed.count():
            changed.click(timeout=1000)
        known = main.edge.get(f"/api/assets?limit=1&q={quote(wanted['title'])}")["total"]
        titles = field_page.locator(f"{ROWS} .asset-title").all_inner_texts()
        assert titles and all(wanted["title"] in title for title in titles), titles
        return field_page.get_by_test_id("total").inner_text() == f"{known} found"

    eventually(60, "all of this title are found", all_are_found)
    field_page.get_by_test_id("search").fill("no asset has this title")
    expect(field_page.get_by_text("Nothing matches.")).to_be_visible()
    field_page.get_by_test_id("search").fill("")
    field_page.get_by_test_id("filter-state").select_option("withdrawn")
    expect(field_page.get_by_test_id("total")).to_contain_text("found")


def test_three_are_requested_one_is_cancelled_and_the_mirror_brings_two(main: Installation, open_page: OpenPage) -> None:
    edge = main.edge
    eventually(60, "there are assets to ask for", lambda: len(edge.assets(state="available")) >= 3)
    page = open_page(edge, "fred", "#/mirror")
    # Nothing moves while nobody asks for bytes; what is ready can still be cancelled then.
    edge.stop_mirror()
    page.get_by_test_id("nav-assets").click()
    page.get_by_test_id("filter-state").select_option("available")
    expect(page.get_by_test_id("assets")).to_have_attribute("aria-busy", "false")
    rows = page.locator(f"{ROWS}[data-state=available]")
    expect(rows.nth(2)).to_be_visible()
    ids = [name.removeprefix("asset-") for name in rows.evaluate_all("all => all.map((one) => one.dataset.testid)")[:3]]
    for asset_id in ids:
        row(page, asset_id).click()
        expect(row(page, asset_id)).to_have_attribute("aria-selected", "true")
    expect(page.get_by_test_id("cost")).to_contain_text("3 selected")
    expect(page.get_by_test_id("cost")).to_contain_text("iB")
    page.get_by_test_id("request").click()
    expect(page.get_by_test_id("toast")).to_contain_text("3 requested")
    page.get_by_test_id("filter-state").select_option("")
    for asset_id in ids:
        eventually(60, "headquarters answers", lambda asset_id=asset_id: edge.state(asset_id) == "ready")

    cancelled, *kept = ids
    title = edge.get(f"/api/assets/{cancelled}")["title"]
    page.get_by_test_id("search").fill(title)
    expect(page.get_by_test_id("total")).to_contain_text("found")
    expect(page.get_by_test_id("assets")).to_have_attribute("aria-busy", "false")
    row(page, cancelled).click()
    page.get_by_test_id("cancel").click()
    expect(page.get_by_test_id("toast")).to_contain_text("1 cancelled")
    eventually(60, "it is cancelled", lambda: edge.state(cancelled) == "cancelled")

    page.get_by_test_id("nav-mirror").click()
    expect(page.get_by_test_id("mirror-estimate")).to_contain_text("2 requested assets are ready")
    page.get_by_test_id("mirror-start").click()
    for asset_id in kept:
        eventually(60, "the bytes arrive", lambda asset_id=asset_id: edge.state(asset_id) == "mirrored")
    page.get_by_test_id("nav-delivered").click()
    expect(page.get_by_test_id("gallery").locator("img").first).to_be_visible()
    for asset_id in kept:
        page.locator(f"[data-testid=gallery] a[href='#/assets/{asset_id}']").click()
        picture = page.get_by_test_id("full-size")
        expect(picture).to_be_visible()
        # A picture that could not be decoded has no width.
        eventually(60, "the picture is whole", lambda: picture.evaluate("one => one.complete && one.naturalWidth > 0"))
        page.get_by_test_id("nav-delivered").click()
    with page.expect_download() as saved:
        page.locator(f"[data-testid=gallery] a[href='#/assets/{kept[0]}']").click()
        page.get_by_role("link", name="Save").click()
    assert saved.value.path().stat().st_size == edge.get(f"/api/assets/{kept[0]}")["size"]
    said = [entry["action"] for entry in main.edge.get("/api/audit?user=fred&limit=200")["entries"]]
    assert {"asset.request", "asset.cancel", "mirror.start"} <= set(said)


def test_a_paused_link_says_so_and_as_of_when_everything_is_known(main: Installation, field_page: Page) -> None:
    field_page.get_by_test_id("nav-link").click()
    expect(field_page.get_by_test_id("link-state")).to_have_attribute("data-state", "up", timeout=60_000)
    field_page.get_by_test_id("link-pause").click()
    try:
        expect(field_page.get_by_test_id("link-state")).to_have_attribute("data-state", "paused")
        expect(field_page.get_by_text("since fred paused it")).to_have_count(1)
        expect(field_page.get_by_test_id("link-pause")).to_have_count(0)
        field_page.get_by_test_id("nav-assets").click()
        expect(field_page.get_by_test_id("as-of").first).to_contain_text("as of")
        field_page.get_by_test_id("nav-link").click()
    finally:
        field_page.get_by_test_id("link-resume").click()
    expect(field_page.get_by_test_id("link-state")).to_have_attribute("data-state", "up", timeout=60_000)
    expect(field_page.get_by_test_id("as-of")).to_have_count(0)


def test_a_stopped_service_is_seen_stopped_and_started_again(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "olga", "#/services")
    page.get_by_test_id("service-requester-stop").click()
    try:
        expect(page.get_by_test_id("service-requester-state")).to_have_attribute("data-state", "paused")
    finally:
        page.get_by_test_id("service-requester-start").click()
    expect(page.get_by_test_id("service-requester-state")).to_have_attribute("data-state", "running")


def test_the_overview_leads_to_every_service_and_says_how_it_is(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "vera", "#/home")
    for one in main.edge.get("/api/services")["services"]:
        tile = page.get_by_test_id(f"service-{one['service']}")
        expect(tile).to_be_visible()
        expect(page.get_by_test_id(f"service-{one['service']}-state")).not_to_be_empty()
    states = main.edge.get("/api/status")["assets"]["by_state"]
    expect(page.locator("a[href='#/assets/?state=available']")).to_contain_text("Available")
    assert "available" in states
    for service, title in (("listener", "Services"), ("mirror", "Mirror"), ("link", "Link")):
        page.get_by_test_id(f"service-{service}").click()
        expect(page.locator("h1")).to_have_text(title)
        if title == "Services":
            expect(page.get_by_test_id("log-listener")).to_be_visible()
        page.get_by_test_id("nav-home").click()
        expect(page.locator("h1")).to_have_text("Overview")
    page.locator("a[href='#/assets/?state=available']").click()
    expect(page.get_by_test_id("filter-state")).to_have_value("available")


def test_debug_logging_is_switched_on_and_off_also_of_the_viewer(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "olga", "#/services")
    for service in ("listener", "viewer"):
        button = page.get_by_test_id(f"service-{service}-debug")
        expect(button).to_have_attribute("aria-pressed", "false")
        button.click()
        expect(page.get_by_test_id("toast")).to_contain_text("It logs every step")
        expect(button).to_have_attribute("aria-pressed", "true")
        expect(page.get_by_test_id(f"service-{service}")).to_contain_text("logs debug")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "false")
    # It alone is never told to pause: nobody could tell it to go on.
    expect(page.get_by_test_id("service-viewer-stop")).to_have_count(0)


def test_assets_are_ordered_by_the_list_and_by_the_headings_of_its_columns(main: Installation, open_page: OpenPage) -> None:
    edge = main.edge
    page = open_page(edge, "vera", "#/assets")
    shown = page.locator(ROWS)

    expect(shown.nth(4)).to_be_visible()
    known = {f"asset-{one['asset_id']}": one["size"] for one in edge.assets()}

    def sizes() -> list[int]:
        known.update({f"asset-{one['asset_id']}": one["size"] for one in edge.assets()})
        rows = shown.evaluate_all("all => all.sort((a, b) => a.dataset.index - b.dataset.index).map((one) => one.dataset.testid)")
        # One that came between is read with the next look.
        return [known.get(name, -1) for name in rows]

    def begin_with(size: int, reverse: bool) -> bool:
        found = sizes()
        return found == sorted(found, reverse=reverse) and (found[0] >= size if reverse else 0 <= found[0] <= size)

    largest, smallest = max(known.values()), min(known.values())
    page.get_by_test_id("sort").select_option("size desc")
    eventually(60, "the largest come first", lambda: begin_with(largest, True))
    heading = page.get_by_test_id("order-by-size")
    expect(heading).to_have_attribute("aria-pressed", "true")
    heading.click()
    expect(page.get_by_test_id("sort")).to_have_value("size asc")
    eventually(60, "the smallest come first", lambda: begin_with(smallest, False))
    page.get_by_test_id("order-by-title").click()
    expect(page.get_by_test_id("sort")).to_have_value("title asc")
    page.get_by_test_id("order-by-age").click()
    expect(page.get_by_test_id("sort")).to_have_value("")


def test_many_are_chosen_at_once(main: Installation, open_page: OpenPage) -> None:
    edge = main.edge
    eventually(60, "there are assets", lambda: len(edge.assets(state="available")) >= 5)
    page = open_page(edge, "fred", "#/assets")
    page.get_by_test_id("sort").select_option("title asc")
    expect(page.get_by_test_id("assets")).to_have_attribute("aria-busy", "false")
    chosen = page.locator(f"{ROWS}[aria-selected=true]")
    at = lambda index: page.locator(f"[data-index='{index}']")  # noqa: E731
    expect(at(4)).to_be_visible()
    at(1).click()
    at(3).click(modifiers=["Shift"])
    expect(chosen).to_have_count(3)
    expect(page.get_by_test_id("cost")).to_contain_text("3 selected")
    page.get_by_test_id("assets").focus()
    page.keyboard.press("Shift+ArrowDown")
    expect(chosen).to_have_count(4)
    page.keyboard.press("Escape")
    expect(chosen).to_have_count(0)
    title = edge.assets(state="available")[0]["title"]
    page.get_by_test_id("search").fill(title)
    expect(page.get_by_test_id("total")).to_contain_text("found")
    expect(page.get_by_test_id("assets")).to_have_attribute("aria-busy", "false")
    found = page.get_by_test_id("total").inner_text().split()[0]
    expect(page.get_by_test_id("select-all")).to_have_text("Select all")
    page.get_by_test_id("select-all").click()
    expect(page.get_by_test_id("cost")).to_contain_text(f"{found} selected")
    expect(page.get_by_test_id("select-all")).to_have_text("Select none")
    page.get_by_test_id("select-all").click()
    expect(page.get_by_test_id("cost")).to_contain_text("0 selected")
    page.get_by_test_id("assets").focus()
    page.keyboard.press("Control+a")
    expect(page.get_by_test_id("cost")).to_contain_text(f"{found} selected")


def look_for(page: Page, title: str) -> None:
    page.get_by_test_id("search").fill(title)
    expect(page.get_by_test_id("total")).to_contain_text("found")
    expect(page.get_by_test_id("assets")).to_have_attribute("aria-busy", "false")


def test_what_was_chosen_in_another_search_is_requested_too_and_counted(main: Installation, open_page: OpenPage) -> None:
    edge = main.edge
    edge.stop_mirror()

    def two_titles() -> list[dict]:
        one, *others = edge.assets(state="available")
        return [one, *(other for other in others if one["title"] not in other["title"] and other["title"] not in one["title"])][:2]

    eventually(60, "there are two assets of different titles", lambda: len(two_titles()) == 2)
    one, other = two_titles()
    page = open_page(edge, "fred", "#/assets")
    look_for(page, one["title"])
    row(page, one["asset_id"]).click()
    expect(page.get_by_test_id("cost")).to_contain_text("1 selected ·")
    look_for(page, other["title"])
    expect(row(page, one["asset_id"])).to_have_count(0)
    expect(page.get_by_test_id("cost")).to_contain_text("1 selected, not in this list · will cost")
    row(page, other["asset_id"]).click()
    expect(page.get_by_test_id("cost")).to_contain_text("2 selected, 1 of them not in this list")
    look_for(page, one["title"])
    expect(row(page, one["asset_id"])).to_have_attribute("aria-selected", "true")
    page.get_by_test_id("request").click()
    expect(page.get_by_test_id("toast")).to_contain_text("2 requested")
    expect(page.get_by_test_id("cost")).to_contain_text("0 selected")
    for asset in (one, other):
        eventually(60, "headquarters answers", lambda asset=asset: edge.state(asset["asset_id"]) == "ready")


def test_an_address_that_cannot_be_read_leads_home(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "fred", "#/%")
    expect(page.locator("h1")).to_have_text("Overview")
    page.get_by_test_id("nav-assets").click()
    expect(page.locator("h1")).to_have_text("Assets")
    page.goto("/#/assets/%E0%A4%A")
    expect(page.locator("h1")).to_have_text("Overview")


def test_what_an_asset_will_take_is_told_with_where_the_rate_is_from(main: Installation, open_page: OpenPage) -> None:
    edge = main.edge
    eventually(60, "there is an asset to ask for", lambda: edge.assets(state="available"))
    asset = edge.get("/api/assets?limit=1&state=available")["assets"][0]
    page = open_page(edge, "fred", f"#/assets/{asset['asset_id']}")
    estimate = {"assets": 1, "bytes": 1 << 20, "bytes_per_second": 1 << 18, "seconds": 4}
    page.route("**/api/mirror/estimate*", lambda route: route.fulfill(json=estimate))
    measured = {"measured_over_s": 60, "as_of": asset["broadcast_at"]}
    unknown = {"rate_from": None, "bytes_per_second": None, "seconds": None, "measured_over_s": None, "as_of": None}
    for said, takes, source in (
        ({"rate_from": "cap", "measured_over_s": None, "as_of": None}, ", at best 4 s at 256 KiB/s", ", the link's limit"),
        ({"rate_from": "link", **measured}, ", 4 s at 256 KiB/s", r", the link's busiest minute .*(ago|now)"),
        ({"rate_from": "mirror", **measured}, ", 4 s at 256 KiB/s", r", measured .*(ago|now)"),
        (unknown, ", time not known yet", ""),
    ):
        estimate |= said
        page.goto(f"/#/assets/{asset['asset_id']}")
        page.reload()
        expect(page.get_by_test_id("cost")).to_have_text(re.compile(f"^It will cost 1.0 MiB{takes}{source}[.]$"))
        # In the list it is told in the same words.
        page.get_by_test_id("nav-assets").click()
        look_for(page, asset["title"])
        row(page, asset["asset_id"]).click()
        rate = takes.split(" at ")[-1]
        expect(page.locator(".actions > span").first).to_have_text(re.compile(f"{rate}{source}$"))
