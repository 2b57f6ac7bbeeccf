"""What headquarters does: looks on as assets pass, sees who asked and got what, takes an asset back."""
from playwright.sync_api import Page, expect

from api import eventually
from conftest import OpenPage
from installation import Installation

STAGES = ("feed", "downloader", "broadcaster", "responder")


def delivered(main: Installation) -> str:
    """An asset that the edge asked for and has got."""
    edge = main.edge
    eventually(60, "there is an asset to ask for", lambda: edge.assets(state="available"))
    asset_id = edge.get("/api/assets?limit=1&state=available")["assets"][0]["asset_id"]
    edge.post(f"/api/assets/{asset_id}/request")
    # The mirror brings what is ready when it starts, and no more.
    eventually(60, "headquarters answers", lambda: edge.state(asset_id) == "ready")
    edge.post("/api/mirror/start")
    eventually(60, "the bytes arrive", lambda: edge.state(asset_id) == "mirrored")
    return asset_id


def test_assets_pass_the_lanes_and_who_got_what_is_told(main: Installation, open_page: OpenPage) -> None:
    asset_id = delivered(main)
    page = open_page(main.core, "ada", "#/lanes")
    for stage in STAGES:
        expect(page.get_by_test_id(f"lane-{stage}").locator("li").first).to_be_visible(timeout=30_000)
    page.get_by_test_id("nav-requests").click()
    told = page.get_by_role("row").filter(has=page.locator(f"a[href='#/assets/{asset_id}']"))
    expect(told).to_contain_text("edge-1")
    expect(told).to_contain_text("Delivered", timeout=30_000)
    page.get_by_test_id("nav-edges").click()
    expect(page.get_by_test_id("site-edge-1")).to_be_visible()
    page.goto(f"/#/assets/{asset_id}")
    expect(page.get_by_role("region", name="Who asked for it")).to_contain_text("edge-1")


def test_an_edge_that_was_never_heard_of_is_told_first_and_a_revoked_one_last(main: Installation, open_page: OpenPage) -> None:
    main.core.post("/api/sites", {"site": "edge-9", "certificate_sha256": "9" * 64})
    try:
        page = open_page(main.core, "ada", "#/edges")
        rows = page.locator("[data-testid^=site-]")
        expect(rows.first).to_contain_text("edge-9")
        expect(rows.first).to_contain_text("Never heard of")
        page.get_by_test_id("nav-home").click()
        expect(page.get_by_test_id("problems")).to_contain_text("othing is heard of edge-9 from the start", timeout=20_000)
        page.get_by_test_id("problems").get_by_role("link", name="Edges").click()
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
    page.get_by_test_id("withdraw").click()
    page.get_by_label("Reason").fill("shows a face")
    page.get_by_test_id("confirm").click()
    expect(page.get_by_test_id("state")).to_have_attribute("data-state", "withdrawn")
    eventually(60, "the edge hears of it", lambda: main.edge.state(asset_id) == "withdrawn")
    entries = main.core.get("/api/audit?user=ada&limit=50")["entries"]
    assert {"asset.withdraw", "asset.expiry"} <= {entry["action"] for entry in entries}


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
    page.get_by_role("searchbox").fill("nobody did this")
    expect(page.get_by_test_id("audit-row")).to_have_count(0)
