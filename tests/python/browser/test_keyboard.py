"""A field team, and headquarters, without a mouse."""
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from api import Site, eventually
from conftest import PASSWORD, OpenPage
from installation import Installation
from keys import MOST_TABS, focus, press
from line import push, push_nothing
from states import CORE, EDGE
from watched import Watch

PAGE = Path(__file__).parents[3] / "services/viewer/page"
# How many entries of the audit the page reads at once, and where it is read.
AUDIT_PAGE, ZONE = 100, "Pacific/Auckland"


def test_a_request_is_made_cancelled_and_mirrored_with_keys_alone(main: Installation, open_page: OpenPage) -> None:
    edge = main.edge
    eventually(60, "there are assets to ask for", lambda: len(edge.assets(state="available")) >= 2)
    edge.stop_mirror()
    page = open_page(edge, "fred")
    press(page, "nav-assets")
    focus(page, "filter-state")
    page.keyboard.type("Available")
    expect(page.get_by_test_id("filter-state")).to_have_value("available")
    expect(page.get_by_test_id("assets")).to_have_attribute("aria-busy", "false")
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
    expect(page.get_by_test_id("filter-state")).to_have_value("ready")
    expect(page.get_by_test_id("assets")).to_have_attribute("aria-busy", "false")
    focus(page, "assets")
    expect(page.get_by_test_id(f"asset-{ids[0]}")).to_be_visible()
    page.keyboard.press("Home")
    cancelled = page.locator("[role=option]").first.get_attribute("data-testid").removeprefix("asset-")
    page.keyboard.press("c")
    expect(page.get_by_test_id("toast")).to_contain_text("1 cancelled")
    eventually(60, "it is cancelled", lambda: edge.state(cancelled) == "cancelled")
    press(page, "nav-mirror")
    press(page, "mirror-start")
    for asset_id in {*ids} - {cancelled}:
        eventually(60, "the rest arrives", lambda asset_id=asset_id: edge.state(asset_id) == "mirrored")


def test_a_service_and_the_link_are_stopped_and_started_with_keys_alone(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "olga")
    press(page, "nav-link")
    press(page, "link-pause")
    expect(page.get_by_test_id("link-state")).to_have_attribute("data-state", "paused")
    press(page, "link-resume")
    expect(page.get_by_test_id("link-state")).to_have_attribute("data-state", "up", timeout=60_000)
    press(page, "nav-services")
    press(page, "service-listener-stop")
    expect(page.get_by_test_id("service-listener-state")).to_have_attribute("data-state", "paused")
    press(page, "service-listener-start")
    expect(page.get_by_test_id("service-listener-state")).to_have_attribute("data-state", "running")


def asked_for(main: Installation, count: int = 1) -> list[str]:
    """Assets that headquarters has answered for, while the mirror rests."""
    edge = main.edge
    edge.stop_mirror()
    eventually(60, "there are assets to ask for", lambda: len(edge.assets(state="available")) >= count)
    ids = [one["asset_id"] for one in edge.get(f"/api/assets?limit={count}&state=available")["assets"]]
    for asset_id in ids:
        edge.post(f"/api/assets/{asset_id}/request")
    for asset_id in ids:
        eventually(60, "headquarters answers", lambda asset_id=asset_id: edge.state(asset_id) == "ready")
    return ids


def arrived(main: Installation) -> str:
    """An asset that is here."""
    here = main.edge.assets(state="mirrored")
    if here:
        return here[0]["asset_id"]
    [asset_id] = asked_for(main)
    main.edge.post("/api/mirror/start")
    eventually(60, "the bytes arrive", lambda: main.edge.state(asset_id) == "mirrored")
    return asset_id


def on_offer(main: Installation) -> str:
    """An asset that headquarters offers."""
    eventually(60, "assets are on offer", lambda: len(main.core.assets(state="broadcast")) > 4)
    return main.core.get("/api/assets?limit=1&state=broadcast")["assets"][0]["asset_id"]


def another_on_offer(main: Installation) -> str:
    """One whose expiry nobody has just set: every edge is being told of that."""
    on_offer(main)
    return main.core.assets(state="broadcast")[-1]["asset_id"]


def metered(main: Installation) -> None:
    main.edge.post("/api/link", {"budget": {"metered": True}})
    eventually(60, "bulk is held", lambda: any(one["held"] for one in main.edge.get("/api/link")["limits"]["classes"]))


def as_configured(main: Installation) -> None:
    main.edge.post("/api/link", {"allow": "0B", "as_configured": ["budget/metered", "budget/cap"]})
    eventually(60, "nothing is held", lambda: not any(one["held"] for one in main.edge.get("/api/link")["limits"]["classes"]))


def a_mirror_at_work(main: Installation) -> None:
    """It has something to fetch, and waits for a word on the metered line."""
    asked_for(main)
    metered(main)
    main.edge.post("/api/mirror/start")


def capped(main: Installation) -> None:
    main.edge.post("/api/link", {"budget": {"cap": "2MB"}})


def kate(site: Site, **change: Any) -> None:
    """A user, as she was at first."""
    site.http.delete(f"{site.url}/api/users/kate", timeout=10)
    site.post("/api/users", {"name": "kate", "role": "viewer", "password": PASSWORD})
    if change:
        site.post("/api/users/kate", change)


@dataclass
class Deed:
    """Something that can be done on a page: where, what to press, what to type then, and what the audit calls it."""

    button: str
    action: str
    view: str | Callable[[Installation], str]
    site: str = "edge-1"
    name: str = ""
    # What must be so for the button to be there, and what is put back.
    before: Callable[[Installation], Any] = lambda main: None
    after: Callable[[Installation], Any] = lambda main: None
    # Keys and texts for the dialog; none where there is no dialog.
    answer: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return f"{self.site}-{self.name or self.button}"


def the_asset(find: Callable[[Installation], str]) -> Callable[[Installation], str]:
    return lambda main: f"assets/{find(main)}"


def requested(main: Installation) -> str:
    return asked_for(main)[0]


def available(main: Installation) -> str:
    eventually(60, "there is an asset to ask for", lambda: main.edge.assets(state="available"))
    return main.edge.get("/api/assets?limit=1&state=available")["assets"][0]["asset_id"]


DEEDS = [
    Deed("mirror-start", "mirror.start", "mirror", before=asked_for),
    Deed("mirror-stop", "mirror.stop", "mirror", before=a_mirror_at_work, after=as_configured),
    *(Deed(f"order-{place}", "asset.order", "mirror", before=lambda main: asked_for(main, 2)) for place in ("first", "up", "down", "last")),
    Deed("request", "asset.request", the_asset(available)),
    Deed("cancel", "asset.cancel", the_asset(requested)),
    Deed("pin", "asset.pin", the_asset(arrived)),
    Deed("pin", "asset.unpin", the_asset(arrived), name="unpin", before=lambda main: main.edge.post(f"/api/assets/{arrived(main)}/pin")),
    Deed("evict", "asset.evict", the_asset(arrived), answer=("Tab", "Enter")),
    Deed("limit-cap-change", "link.set", "link", answer=("2MB", "Enter"), after=as_configured),
    Deed("limit-metered-change", "link.set", "link", after=as_configured),
    Deed("allow", "link.set", "link", before=metered, answer=("20MB", "Enter"), after=as_configured),
    Deed("as-configured-cap", "link.set", "link", before=capped),
    Deed("service-requester-debug", "service.log_level", "services", after=lambda main: main.edge.post("/api/services/requester/log-level")),
    Deed("expiry", "asset.expiry", the_asset(on_offer), site="core", answer=("Enter",)),
    Deed("withdraw", "asset.withdraw", the_asset(another_on_offer), site="core", answer=("shows a face", "Enter")),
    Deed(
        "add-user",
        "user.add",
        "users",
        site="core",
        before=lambda main: main.core.http.delete(f"{main.core.url}/api/users/kate", timeout=10),
        answer=("kate", "Tab", "Tab", PASSWORD, "Enter"),
    ),
    Deed("role-kate", "user.set", "users", site="core", before=lambda main: kate(main.core), answer=("f", "Tab", "Tab", "Enter")),
    Deed("password-kate", "user.set", "users", site="core", name="new-password", before=lambda main: kate(main.core), answer=(PASSWORD, "Enter")),
    Deed("disable-kate", "user.set", "users", site="core", name="disable", before=lambda main: kate(main.core)),
    Deed("disable-kate", "user.set", "users", site="core", name="enable", before=lambda main: kate(main.core, disabled=True)),
    Deed("remove-kate", "user.remove", "users", site="core", name="remove", before=lambda main: kate(main.core), answer=("Tab", "Enter")),
]

# Buttons whose keys another test presses.
ELSEWHERE = {
    "account": "test_sign_in.py",
    "confirm": "the dialogs of test_sign_in.py",
    "dialog-cancel": "test_a_dialog_is_left_with_keys_alone",
    "theme": "test_colours_are_changed",
    "try-again": "test_what_could_not_be_read_is_read_again",
    "show-changed": "test_what_came_to_a_search_is_shown",
    "earlier-entries": "test_the_audit_is_read_on_and_back",
    "log-x-copy": "test_a_log_is_opened_narrowed_and_copied",
    "sign-in": "test_signing_in_and_out_needs_no_mouse",
    "sign-out": "test_signing_in_and_out_needs_no_mouse",
    "open": "test_assets_are_found_sorted_and_opened",
    "order-by-x": "test_assets_are_found_sorted_and_opened",
    "select-all": "test_assets_are_found_sorted_and_opened",
    "lost-known": "test_what_was_lost_is_known_with_keys_alone",
    "earlier-requests": "test_headquarters.py",
    "link-pause": "test_a_service_and_the_link_are_stopped_and_started",
    "link-resume": "test_a_service_and_the_link_are_stopped_and_started",
    "service-x-stop": "test_a_service_and_the_link_are_stopped_and_started",
    "service-x-start": "test_a_service_and_the_link_are_stopped_and_started",
    "service-x-logs": "test_a_log_is_opened_narrowed_and_copied",
    "route-x-pause": "test_link.py",
    "route-x-resume": "test_link.py",
    "route-x-live-first": "test_down.py",
    "route-x-class": "test_down.py",
    "span-x": "test_link.py",
    "redrive": "the state `letters` of states.py",
    "set-up-test": "test_set_up.py",
    "set-up-stop": "test_set_up.py",
    "set-up-connect": "test_set_up.py",
    "set-up-again": "test_a_connected_site_is_connected_anew",
}


@pytest.fixture(scope="module")
def sessions(main: Installation, browser: Browser) -> dict[str, Any]:
    """Olga's session at each site: who signs in for each button anew waits for each password."""
    kept = {}
    for name, site in main.sites.items():
        context = browser.new_context(base_url=site.url)
        context.request.post("/api/session", data={"user": "olga", "password": PASSWORD}, headers={"x-fieldline": "1"})
        kept[name] = context.storage_state()
        context.close()
    return kept


@pytest.fixture
def olgas(main: Installation, sessions: dict[str, Any], open_page: OpenPage) -> Callable[..., Page]:
    return lambda site, view, **options: open_page(main.sites[site], None, f"#/{view}", storage_state=sessions[site], **options)


def deeds(site: Site, action: str) -> set[str]:
    entries = site.get(f"/api/audit?user=olga&action={action}&limit=500")["entries"]
    return {one["id"] for one in entries if one["outcome"] == "done"}


@pytest.mark.parametrize("deed", DEEDS, ids=str)
def test_what_can_be_done_is_done_with_the_keys(main: Installation, olgas: Callable[..., Page], deed: Deed) -> None:
    site = main.sites[deed.site]
    deed.before(main)
    try:
        view = deed.view if isinstance(deed.view, str) else deed.view(main)
        known = deeds(site, deed.action)
        page = olgas(deed.site, view)
        press(page, deed.button)
        if deed.answer is not None:
            expect(page.get_by_role("dialog")).to_be_visible()
            for word in deed.answer:
                page.keyboard.press(word) if word in ("Tab", "Enter") else page.keyboard.type(word)
            expect(page.get_by_role("dialog")).to_have_count(0)
        eventually(60, f"{deed.action} is done", lambda: deeds(site, deed.action) - known)
    finally:
        deed.after(main)


def buttons() -> Iterator[str]:
    """The buttons that the page's sources name, with `*` for what they leave open."""
    for source in PAGE.rglob("*.js"):
        for button in re.findall(r"<(?:button|\$\{Action\})[^<]*", source.read_text(encoding="utf-8")):
            named = re.search(r'testid=(?:"([^"]+)"|\$\{testid\})', button)
            assert named, f"{source.name} has a button without a test id, which no test can ask for: {button}"
            # That of Action itself is what each action says.
            if named[1]:
                yield re.sub(r"\$\{[^}]*\}", "*", named[1])


def test_no_button_is_without_a_test_of_its_keys() -> None:
    """A new button is another line of DEEDS, or of ELSEWHERE."""
    pressed = {deed.button for deed in DEEDS} | set(ELSEWHERE)
    named = set(buttons())
    assert len(named) > 30
    assert not {name for name in named if not any(fnmatch(one, name) for one in pressed)}


# What can have the focus, and is there; and which of it has had it without its being seen.
WATCH_FOCUS = """() => {
    const there = [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")];
    window.left = new Set(there.filter((one) => !one.disabled && one.checkVisibility()));
    window.unseen = new Set();
    window.elements = window.left.size;
    document.addEventListener("focusin", ({ target }) => {
        window.left.delete(target);
        const style = getComputedStyle(target);
        if (style.outlineStyle === "none" && style.boxShadow === "none") window.unseen.add(target);
    });
    return window.elements;
}"""
TOLD = "(which) => [...window[which]].filter((one) => one.checkVisibility() && !one.disabled).map((one) => one.outerHTML.slice(0, 160))"
# How often Tab is pressed before one looks whether all is reached.
AT_ONCE = 20


@pytest.mark.parametrize("site", ["edge-1", "core"])
def test_tab_reaches_all_that_can_be_worked_and_shows_where_one_is(main: Installation, olgas: Callable[..., Page], site: str) -> None:
    arrived(main)
    page = olgas(site, "home")
    for view in (*(CORE if site == "core" else EDGE), f"assets/{arrived(main) if site != 'core' else on_offer(main)}"):
        page.goto("about:blank")
        page.goto(f"{main.sites[site].url}/#/{view}")
        page.locator("h1").wait_for()
        page.wait_for_timeout(300)
        count = page.evaluate(WATCH_FOCUS)
        assert count > 10
        # What comes meanwhile, as a row of an asset, takes a step of its own.
        for pressed in range(1, count + MOST_TABS):
            page.keyboard.press("Tab")
            if pressed >= count and pressed % AT_ONCE == 0 and not page.evaluate(TOLD, "left"):
                break
        assert not page.evaluate(TOLD, "left"), view
        assert not page.evaluate(TOLD, "unseen"), view


def test_assets_are_found_sorted_and_opened_with_keys_alone(main: Installation, olgas: Callable[..., Page]) -> None:
    eventually(60, "there are assets", lambda: main.edge.get("/api/assets?limit=1")["total"] > 3)
    wanted = main.edge.get("/api/assets?limit=1&sort=size&order=desc")["assets"][0]
    page = olgas("edge-1", "assets")
    rows = page.locator("[role=option]")
    expect(rows.first).to_be_visible()
    focus(page, "sort")
    page.keyboard.type("Larg")
    expect(page.get_by_test_id("sort")).to_have_value("size desc")

    def the_largest_is_first() -> bool:
        # Others are of the same picture, and as large.
        first = rows.first.get_attribute("data-testid", timeout=1000).removeprefix("asset-")
        return main.edge.get(f"/api/assets/{first}")["size"] >= wanted["size"]

    eventually(60, "the largest is first", the_largest_is_first)
    press(page, "order-by-title")
    expect(page.get_by_test_id("order-by-title")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_test_id("select-all")).to_be_enabled()
    press(page, "select-all")
    expect(page.locator("[role=option][aria-selected=true]").first).to_be_visible()
    press(page, "select-all")
    expect(page.locator("[role=option][aria-selected=true]")).to_have_count(0)
    focus(page, "assets")
    page.keyboard.press("/")
    page.keyboard.type(wanted["title"])
    expect(page.get_by_test_id("total")).to_contain_text("found")
    expect(page.get_by_test_id("assets")).to_have_attribute("aria-busy", "false")
    press(page, "open")
    expect(page.locator("h1")).to_have_text(wanted["title"])


def test_a_file_is_saved_with_keys_alone(main: Installation, olgas: Callable[..., Page]) -> None:
    asset_id = arrived(main)
    page = olgas("edge-1", f"assets/{asset_id}")
    with page.expect_download() as saved:
        press(page, page.get_by_role("link", name="Save"))
    assert saved.value.path().stat().st_size == main.edge.get(f"/api/assets/{asset_id}")["size"]


def test_a_log_is_opened_narrowed_and_copied_with_keys_alone(main: Installation, olgas: Callable[..., Page]) -> None:
    page = olgas("core", "services", permissions=["clipboard-read", "clipboard-write"])
    press(page, "service-feed-logs")
    log = page.get_by_test_id("log-feed")
    expect(log.locator("li").first).to_be_visible()
    press(page, "log-feed-copy")
    expect(page.get_by_test_id("toast")).to_contain_text("Copied")
    narrowed = log.get_by_label("Warnings and errors only")
    press(page, narrowed, " ")
    expect(narrowed).to_be_checked()
    press(page, "service-feed-logs")
    expect(log).to_have_count(0)


def test_the_audit_is_searched_with_keys_alone(main: Installation, olgas: Callable[..., Page]) -> None:
    page = olgas("core", "audit")
    rows = page.get_by_test_id("audit-row")
    expect(rows.first).to_be_visible()
    focus(page, page.get_by_label("Only this user"))
    page.keyboard.type("nobody of this name")
    expect(rows).to_have_count(0)
    with page.expect_request(lambda request: "/api/audit" in request.url and "q=link" in request.url):
        focus(page, page.get_by_role("searchbox"))
        page.keyboard.type("link")


def test_the_audit_is_read_on_and_back_to_a_day_with_keys_alone(main: Installation, olgas: Callable[..., Page]) -> None:
    core = main.core
    count = lambda: len(core.get("/api/audit?action=service.log_level&limit=1000")["entries"])  # noqa: E731
    while count() <= AUDIT_PAGE:
        core.post("/api/services/depot/log-level", {"level": None})
    page = olgas("core", "audit", timezone_id=ZONE, locale="en-US")
    rows = page.get_by_test_id("audit-row")
    focus(page, page.get_by_role("searchbox"))
    # Without the search there may be as many rows, of which what is earlier is no part of what is searched.
    with page.expect_response(re.compile(r"q=service\.log_level&")):
        page.keyboard.type("service.log_level")
    expect(rows).to_have_count(AUDIT_PAGE)
    expect(rows.last).to_contain_text("service.log_level")
    press(page, "earlier-entries")
    expect(rows).to_have_count(count())
    # What was shown stays, and what comes behind it is older.
    times = rows.locator("time").evaluate_all("all => all.map((one) => one.dateTime)")
    assert times == sorted(times, reverse=True)
    # A day counts as a whole, where the reader is.
    today = datetime.now(ZoneInfo(ZONE)).date()
    for day, there in ((today - timedelta(days=2), 0), (today, AUDIT_PAGE)):
        # The focus begins with the month.
        focus(page, page.get_by_label("Only this user"))
        focus(page, "audit-until")
        before = round(datetime.combine(day + timedelta(days=1), time.min, ZoneInfo(ZONE)).timestamp() * 1000)
        with page.expect_request(re.compile(f"before={before}&")):
            page.keyboard.type(day.strftime("%m%d%Y"))
        expect(rows).to_have_count(there)
    # What happens meanwhile comes by itself, for the day is not over.
    core.post("/api/services/depot/log-level", {"level": None})
    expect(rows).to_have_count(AUDIT_PAGE + 1)


def test_what_came_to_a_search_is_shown_with_keys_alone(main: Installation, olgas: Callable[..., Page]) -> None:
    eventually(60, "there are assets", lambda: main.edge.get("/api/assets?limit=1")["total"] > 3)
    known = main.edge.get("/api/assets?limit=1")["assets"][0]
    page = olgas("edge-1", "home")
    push_nothing(page)
    press(page, "nav-assets")
    focus(page, "search")
    page.keyboard.type(known["title"])
    expect(page.get_by_test_id("total")).to_contain_text("found")
    expect(page.get_by_test_id("assets")).to_have_attribute("aria-busy", "false")
    come = {**known, "asset_id": "0" * 32, "broadcast_at": known["broadcast_at"] + 1}
    other = {**come, "asset_id": "1" * 32, "title": "something else"}
    # Told twice it is still one.
    for one in (come, other, come):
        push(page, "assets", {"assets": [one]})
    expect(page.get_by_test_id("show-changed")).to_have_text("1 changed – show")
    with page.expect_request(lambda request: "/api/assets?q=" in request.url):
        press(page, "show-changed")
    expect(page.get_by_test_id("show-changed")).to_have_count(0)


def test_what_could_not_be_read_is_read_again_with_keys_alone(main: Installation, olgas: Callable[..., Page], watch: Watch) -> None:
    watch.expect("503")
    page = olgas("core", "home")
    away = {"title": "Service Unavailable", "status": 503, "detail": "the tables are away"}
    page.route("**/api/users", lambda route: route.fulfill(status=503, content_type="application/problem+json", body=json.dumps(away)))
    press(page, "nav-users")
    expect(page.get_by_text("the tables are away")).to_be_visible()
    page.unroute("**/api/users")
    press(page, "try-again")
    expect(page.get_by_test_id("user-olga")).to_be_visible()
    expect(page.get_by_text("the tables are away")).to_have_count(0)


def test_a_dialog_is_left_with_keys_alone(olgas: Callable[..., Page]) -> None:
    page = olgas("core", "users")
    for leave in (lambda: press(page, "dialog-cancel"), lambda: page.keyboard.press("Escape")):
        press(page, "add-user")
        expect(page.get_by_role("dialog")).to_be_visible()
        leave()
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_what_was_lost_is_known_with_keys_alone(main: Installation, olgas: Callable[..., Page]) -> None:
    # A link that has lost nothing is shown with an answer that says it has.
    def answer(route: Route) -> None:
        if route.request.method == "POST":
            route.fulfill(body="{}", content_type="application/json")
            return
        link = main.edge.get("/api/link")
        for instance in link["instances"]:
            instance["counters"] = {**instance["counters"], "lost": 20}
            instance["gauges"] = {**instance["gauges"], "lost_records": 20, "lost_ranges": 3, "lost_unknown": 1}
        route.fulfill(body=json.dumps(link), content_type="application/json")

    page = olgas("edge-1", "home")
    page.route("**/api/link", answer)
    push_nothing(page)
    press(page, "nav-link")
    expect(page.get_by_test_id("lost")).to_contain_text("20 records, gone before they were carried")
    with page.expect_request(lambda request: request.method == "POST" and request.url.endswith("/api/link")) as sent:
        press(page, "lost-known")
    assert sent.value.post_data_json == {"lost": "20/3"}


def test_colours_are_changed_with_keys_alone(olgas: Callable[..., Page]) -> None:
    page = olgas("edge-1", "home")
    for theme in ("dark", "light", "auto"):
        press(page, "theme")
        expect(page.locator("html")).to_have_attribute("data-theme", theme)


def test_a_connected_site_is_connected_anew_with_keys_alone(main: Installation, olgas: Callable[..., Page]) -> None:
    page = olgas("edge-1", "set-up")
    # A site whose settings name its core has nothing to connect anew, so this one is shown an answer that says it has.
    place = {"site": "edge-1", "connected": True, "place": "/site.enrolment", "core": None, "since": None, "certificate_ends_at": None, "problem": None}
    page.route("**/api/set-up", lambda route: route.fulfill(json=place))
    page.reload()
    press(page, "set-up-again")
    focus(page, "set-up-text")


def test_signing_in_and_out_needs_no_mouse(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.core, None)
    expect(page.get_by_test_id("sign-in")).to_be_visible()
    focus(page, "sign-in-user")
    page.keyboard.type("vera")
    focus(page, "sign-in-password")
    page.keyboard.type(PASSWORD)
    press(page, "sign-in")
    expect(page.get_by_test_id("nav-lanes")).to_be_visible()
    press(page, "sign-out")
    expect(page.get_by_test_id("sign-in")).to_be_visible()
