"""A page whose line to its site is cut, dead, or one too many: it says so, and misses nothing."""
from contextlib import ExitStack

import requests
from playwright.sync_api import expect

from api import eventually
from conftest import OpenPage
from installation import Installation
from line import SiteLine
from watched import Watch

LISTENERS = 64
# The site beats every 15 s: after two beats that did not come a line is dead, and a moment later people are told.
DEAD_S = 35 + 4


def test_a_page_whose_line_was_cut_misses_nothing_and_reads_nothing_again(
    main: Installation, open_page: OpenPage, watch: Watch
) -> None:
    watch.expect("ERR_|Failed to load resource")
    edge = main.edge
    with SiteLine(edge) as line:
        page = open_page(line.site, "fred", "#/assets")
        edge.stop_mirror()
        eventually(60, "there is an asset to ask for", lambda: edge.assets(state="available"))
        asset = edge.get("/api/assets?limit=1&state=available")["assets"][0]
        asset_id = asset["asset_id"]
        # Among all of them it sinks with each that comes, out of sight at last.
        page.get_by_test_id("search").fill(asset["title"])
        expect(page.get_by_test_id("total")).to_contain_text("found")
        expect(page.get_by_test_id("assets")).to_have_attribute("aria-busy", "false")
        row = page.get_by_test_id(f"asset-{asset_id}")
        expect(row).to_have_attribute("data-state", "available")
        edge.post(f"/api/assets/{asset_id}/request")
        # That is pushed: the page listens.
        expect(row).to_have_attribute("data-state", "ready", timeout=60_000)
        reads: list[str] = []
        page.on("request", lambda request: "/api/assets?" in request.url and reads.append(request.url))
        line.cut()
        edge.post(f"/api/assets/{asset_id}/cancel")
        expect(page.get_by_test_id("as-of")).to_contain_text("lost its site")
        expect(row).to_have_attribute("data-state", "ready")
        line.mend()
        expect(row).to_have_attribute("data-state", "cancelled", timeout=60_000)
        assert not reads, "what was missed came with the connection"
        expect(page.get_by_test_id("as-of")).to_have_count(0)


def test_a_line_that_is_dead_without_saying_so_is_told_and_taken_up_again(
    main: Installation, open_page: OpenPage, watch: Watch
) -> None:
    watch.expect("ERR_|Failed to load resource")
    with SiteLine(main.core) as line:
        page = open_page(line.site, "vera", "#/home")
        expect(page.get_by_test_id("service-feed")).to_be_visible()
        line.stall()
        expect(page.get_by_test_id("as-of")).to_contain_text("lost its site", timeout=(DEAD_S + 20) * 1000)
        line.mend()
        expect(page.get_by_test_id("as-of")).to_have_count(0, timeout=60_000)


def test_a_quiet_line_is_no_dead_one(main: Installation, open_page: OpenPage) -> None:
    """Whatever else is told, the beat comes and is an event, so a page can tell."""
    page = open_page(main.edge, "vera", "#/home")
    told = page.evaluate(
        """() => new Promise((resolve, reject) => {
            const source = new EventSource("/api/events?topics=hello");
            source.addEventListener("beat", (event) => { source.close(); resolve(JSON.parse(event.data)); });
            setTimeout(() => { source.close(); reject(new Error(`no beat; the stream's state is ${source.readyState}`)); }, 35_000);
        })"""
    )
    assert told["now"] > 0
    expect(page.get_by_test_id("as-of")).to_have_count(0)


def test_a_page_that_may_not_listen_says_why_and_listens_once_it_may(
    main: Installation, open_page: OpenPage, watch: Watch
) -> None:
    watch.expect("503")
    site = main.edge
    page = open_page(site, "vera", "#/services")
    expect(page.get_by_test_id("service-link")).to_be_visible()
    others: list[requests.Response] = []
    listen = lambda: requests.get(f"{site.url}/api/events", headers=dict(site.http.headers), stream=True, timeout=20)  # noqa: E731

    def taken() -> bool:
        answer = listen()
        if answer.ok:
            others.append(answer)
        return answer.status_code == 503

    def refused() -> bool:
        # Who has left makes room a moment later, maybe for this page.
        page.goto("about:blank")
        assert any(taken() for _ in range(LISTENERS + 1))
        page.goto("/#/services")
        expect(page.get_by_test_id("as-of")).to_contain_text("64 callers listen already", timeout=12_000)
        return True

    try:
        eventually(60, "all places are taken", refused)
        expect(page.get_by_test_id("as-of")).to_contain_text("close a page")
        # What can be read is there all the same.
        expect(page.get_by_test_id("service-link")).to_be_visible()
    finally:
        for one in others:
            one.close()
    expect(page.get_by_test_id("as-of")).to_have_count(0, timeout=60_000)

    def there_is_room() -> bool:
        with ExitStack() as streams:
            return all(streams.enter_context(listen()).ok for _ in range(LISTENERS // 2))

    # For the pages of the tests that follow, too.
    eventually(60, "who left makes room", there_is_room)
