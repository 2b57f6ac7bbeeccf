"""Titles, descriptions, file names and files made to attack the page: they are shown as what they are, and nothing runs."""
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import catalogue
import installation
from api import eventually
from conftest import OpenPage, make_users
from installation import Installation
from watched import Watch

SCRIPT = "<script>alert(document.domain)</script>"
IMAGE = '"><img src=x onerror=alert(1)>'
SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(2)</script></svg>"""
HTML = b"<!doctype html><html><body onload=alert(3)><script>alert(4)</script></body></html>"
# A file that begins as one kind and goes on as another.
POLYGLOT = b"GIF89a/*<svg/onload=alert(5)>*/=1;alert(6)//<script>alert(7)</script>"
FILES: dict[str, tuple[bytes, dict[str, str] | None]] = {
    "plain.png": (catalogue.png(1), {"title": SCRIPT, "description": IMAGE, "credit": f"{SCRIPT}{IMAGE}"}),
    "<img src=x onerror=alert(8)>.png": (catalogue.png(2), None),
    "javascript:alert(9).png": (catalogue.png(3), {"title": "javascript:alert(9)", "description": "{{7*7}}${7*7}<%= 7*7 %>"}),
    "drawing.svg": (SVG, {"title": "a drawing that runs"}),
    "posing-svg.png": (SVG, {"title": "a drawing that poses as a picture"}),
    "page.html": (HTML, {"title": "a page"}),
    "posing-page.jpg": (HTML, {"title": "a page that poses as a picture"}),
    "polyglot.gif": (POLYGLOT, {"title": "a picture that is a script"}),
    "right-to-left-\u202egnp.exe": (b"MZ not a program", {"title": "\u202eright to left\u0000\u0007"}),
    'quote";filename="evil.html': (HTML, {"title": "a name that breaks a header"}),
}
# It is asked for and stays at headquarters, so that the mirror's queue has something to show.
WAITING = '</a></li><img src=x onerror=alert(10)>'
FILES["waiting.png"] = (catalogue.png(4), {"title": WAITING})
# What each view that lists assets shows of them, and the audit of who asked for them.
LISTED = {
    "edge-1": {"assets": SCRIPT, "delivered": SCRIPT, "mirror": WAITING, "audit": SCRIPT},
    "core": {"assets": SCRIPT, "lanes": SCRIPT, "requests": SCRIPT},
}
# What runs, or would bring something in that does.
RUNS = "main script, main iframe, main object, main embed, main [onerror], main [onload], main a[href^='javascript:' i]"


@pytest.fixture(scope="module")
def attacked(directory: Path) -> Iterator[Installation]:
    """Everything has arrived at the edge, whole, but what waits."""
    source = catalogue.with_sidecars(directory / "attacks", FILES)
    running = installation.demo(directory / "attacked", catalogue=source, core_settings='[feed]\ninterval = "100ms"\nbatch = 20\n')
    try:
        for site in running.sites.values():
            make_users(site)
        edge = running.edge
        eventually(60, "the edge knows all", lambda: edge.get("/api/assets?limit=1")["total"] == len(FILES))
        [waiting] = (asset for asset in edge.assets() if asset["title"] == WAITING)
        for asset in edge.assets():
            if asset != waiting:
                edge.post(f"/api/assets/{asset['asset_id']}/request")
        edge.post("/api/mirror/start")
        eventually(60, "all has arrived", lambda: len(edge.assets(state="mirrored")) == len(FILES) - 1)
        eventually(60, "the mirror rests", lambda: edge.get("/api/mirror")["desired"] == "paused")
        edge.post(f"/api/assets/{waiting['asset_id']}/request")
        eventually(60, "headquarters answers", lambda: edge.state(waiting["asset_id"]) == "ready")
        yield running
    finally:
        running.stop()


SITES = ["edge-1", "core"]


@pytest.mark.parametrize("name", SITES)
def test_no_view_runs_what_an_asset_says_of_itself(attacked: Installation, open_page: OpenPage, name: str) -> None:
    site = attacked.sites[name]
    page = open_page(site, "olga", "#/home")
    views = page.locator("[data-testid^=nav-]")
    expect(views.first).to_be_visible()
    names = views.evaluate_all("all => all.map((one) => one.dataset.testid.slice('nav-'.length))")
    assert set(LISTED[name]) < set(names)
    for view in names:
        page.get_by_test_id(f"nav-{view}").click()
        expect(page.locator(f"[data-testid=nav-{view}][aria-current]")).to_be_visible()
        if view in LISTED[name]:
            # It is there, as the text that it is.
            expect(page.locator("main").get_by_text(LISTED[name][view], exact=True).first).to_be_visible()
        assert page.locator(RUNS).count() == 0, view
    for asset in site.assets():
        page.goto(f"/#/assets/{asset['asset_id']}")
        expect(page.locator("h1")).to_have_text(asset["title"] or asset["file_name"] or "Asset")
        expect(page.get_by_test_id("state")).to_be_visible()
        assert page.locator(RUNS).count() == 0, asset


PICTURES = {"image/png", "image/jpeg", "image/gif", "image/webp"}


def harmless(page: Page, path: str) -> str:
    """Takes an answer that no browser runs, opens it where it is a picture, and says what it is."""
    answer = page.request.get(path)
    headers = answer.headers
    assert answer.ok, f"{path}: {answer.status} {answer.text()}"
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    kind = headers["content-type"].split(";")[0]
    disposition = headers["content-disposition"]
    assert kind in PICTURES or disposition.startswith("attachment"), f"{path}: {headers}"
    # A name stands in it once, and no part of one for itself.
    assert re.fullmatch(r"(inline|attachment); filename\*=UTF-8''[\w.%-]+", disposition), disposition
    if kind in PICTURES:
        opened = page.context.new_page()
        opened.goto(path)
        opened.close()
    return kind


@pytest.mark.parametrize("name", SITES)
def test_content_that_is_opened_on_its_own_runs_nothing(attacked: Installation, open_page: OpenPage, watch: Watch, name: str) -> None:
    # The browser's own frame around a picture, and this test's own script, are stopped by the sandbox too.
    watch.expect("Applying inline style|Blocked script execution")
    site = attacked.sites[name]
    page = open_page(site, "olga")
    assets = [asset for asset in site.assets() if asset["state"] != "ready"]
    contents = {harmless(page, f"/api/assets/{asset['asset_id']}/content") for asset in assets}
    assert "application/octet-stream" in contents and contents & PICTURES
    previews = {harmless(page, f"/api/assets/{asset['asset_id']}/preview") for asset in assets if asset["has_preview"]}
    assert previews and previews <= PICTURES


def test_the_page_allows_no_script_but_its_own_and_no_frame_around_it(attacked: Installation, open_page: OpenPage) -> None:
    page = open_page(attacked.core, None)
    headers = page.request.get("/").headers
    rules = dict((rule.strip().split(" ", 1) + [""])[:2] for rule in headers["content-security-policy"].split(";") if rule.strip())
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == "'self'"
    assert rules["frame-ancestors"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
