"""Titles, descriptions, file names and files made to attack the page: they are shown as what they are, and nothing runs."""
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

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


@pytest.fixture(scope="module")
def attacked(directory: Path) -> Iterator[Installation]:
    """Everything has arrived at the edge, whole."""
    source = catalogue.with_sidecars(directory / "attacks", FILES)
    running = installation.demo(directory / "attacked", catalogue=source, core_settings='[feed]\ninterval = "100ms"\nbatch = 20\n')
    try:
        for site in running.sites.values():
            make_users(site)
        edge = running.edge
        eventually(60, "the edge knows all", lambda: edge.get("/api/assets?limit=1")["total"] == len(FILES))
        for asset in edge.assets():
            edge.post(f"/api/assets/{asset['asset_id']}/request")
        edge.post("/api/mirror/start")
        eventually(60, "all has arrived", lambda: len(edge.assets(state="mirrored")) == len(FILES))
        yield running
    finally:
        running.stop()


@pytest.mark.parametrize("name", ["edge-1", "core"])
def test_no_view_runs_what_an_asset_says_of_itself(attacked: Installation, open_page: OpenPage, name: str) -> None:
    site = attacked.sites[name]
    page = open_page(site, "olga", "#/assets")
    expect(page.get_by_text(SCRIPT)).to_be_visible()
    for view in page.locator("[data-testid^=nav-]").evaluate_all("all => all.map(one => one.dataset.testid)"):
        page.get_by_test_id(view).click()
        expect(page.locator("h1")).to_be_visible()
    for asset in site.assets():
        page.goto(f"/#/assets/{asset['asset_id']}")
        expect(page.get_by_test_id("state")).to_be_visible()
        assert page.locator("main script, main iframe, main object, main embed, main [onerror], main [onload]").count() == 0


def test_content_that_is_opened_on_its_own_runs_nothing(attacked: Installation, open_page: OpenPage, watch: Watch) -> None:
    # The browser's own frame around a picture, and this test's own script, are stopped by the sandbox too.
    watch.expect("Applying inline style|Blocked script execution")
    page = open_page(attacked.edge, "olga")
    for asset in attacked.edge.assets():
        path = f"/api/assets/{asset['asset_id']}/content"
        answer = page.request.get(path)
        headers = answer.headers
        assert answer.ok
        assert headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in headers["content-security-policy"]
        kind = headers["content-type"].split(";")[0]
        picture = kind in {"image/png", "image/jpeg", "image/gif", "image/webp"}
        assert picture or headers["content-disposition"].startswith("attachment"), f"{asset['title']}: {headers}"
        disposition = headers.get("content-disposition", "")
        assert disposition.count("filename=") <= 1 and ".html" not in disposition.split("filename*=")[0].split('";')[-1]
        if picture:
            opened = page.context.new_page()
            opened.goto(path)
            opened.close()


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
