#!/usr/bin/env python3
"""Takes a picture of every page and state, and says where they are.

usage: screenshots.py [NAME...]   (by `cargo xtask screenshots [NAME...]`, which builds the programs)

NAME is busy, failed, apart, down, letters, edges or many: only those are taken, and the other pictures stay.
"""
import hashlib
import socket
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parent))
import catalogue  # noqa: E402
import installation  # noqa: E402
import stored  # noqa: E402
from api import Site, eventually  # noqa: E402
from conftest import CHROMIUM, PASSWORD, make_users  # noqa: E402
from test_accessibility import CORE, EDGE, PHONE  # noqa: E402

OUT = Path(__file__).parents[3] / "target/screenshots"
WIDE = {"width": 1280, "height": 800}
MANY = 10_000
# What a view may take to read and draw what it shows.
SETTLED_MS = 700


def picture(page: Page, name: str) -> None:
    page.wait_for_timeout(SETTLED_MS)
    page.screenshot(path=OUT / f"{name}.png")


def sign_in(browser: Browser, site: Site, **options) -> Page:
    options = {"viewport": WIDE, "reduced_motion": "reduce", **options}
    context = browser.new_context(base_url=site.url, **options)
    answer = context.request.post("/api/session", data={"user": "olga", "password": PASSWORD}, headers={"x-fieldline": "1"})
    assert answer.ok, answer.text()
    return context.new_page()


def views(browser: Browser, site: Site, state: str, only: tuple[str, ...] = (), **options) -> None:
    page = sign_in(browser, site, **options)
    for view in only or (CORE if site.name == "core" else EDGE):
        page.goto(f"/#/{view}")
        page.locator("h1").wait_for()
        picture(page, f"{site.name}-{view}-{state}")
    page.context.close()


def asset(browser: Browser, site: Site, asset_id: str, state: str, **options) -> None:
    page = sign_in(browser, site, **options)
    page.goto(f"/#/assets/{asset_id}")
    page.get_by_test_id("state").wait_for()
    picture(page, f"{site.name}-asset-{state}")
    page.context.close()


def log(browser: Browser, site: Site, service: str, state: str, **options) -> None:
    page = sign_in(browser, site, **options)
    page.goto("/#/services")
    page.get_by_test_id(f"service-{service}-logs").click()
    page.get_by_test_id(f"log-{service}").locator("li").first.wait_for()
    page.get_by_test_id(f"log-{service}").scroll_into_view_if_needed()
    picture(page, f"{site.name}-log-{state}")
    page.context.close()


def dialog(browser: Browser, site: Site, view: str, button: str, state: str, **options) -> None:
    page = sign_in(browser, site, **options)
    page.goto(f"/#/{view}")
    page.get_by_test_id(button).first.click()
    page.get_by_role("dialog").wait_for()
    picture(page, f"{site.name}-{state}")
    page.context.close()


def busy(browser: Browser, directory: Path) -> None:
    """Assets in many states, pictures that arrived, and the same in the dark, on a phone, offline and with trouble."""
    running = installation.demo(directory / "busy", core_settings='[feed]\ninterval = "300ms"\n')
    core, edge = running.core, running.edge
    try:
        for site in (core, edge):
            make_users(site)
            context = browser.new_context(base_url=site.url, viewport=WIDE)
            page = context.new_page()
            page.goto("/")
            page.get_by_test_id("sign-in").wait_for()
            picture(page, f"{site.name}-sign-in")
            context.close()
        views(browser, edge, "first", ("home", "assets", "delivered"))
        eventually(90, "assets have arrived", lambda: edge.get("/api/assets?limit=1")["total"] > 40)
        ids = [one["asset_id"] for one in edge.get("/api/assets?limit=24")["assets"]]
        for asset_id in ids[:14]:
            edge.post(f"/api/assets/{asset_id}/request")
        eventually(60, "headquarters has answered", lambda: len(edge.assets(state="ready")) == 14)
        edge.post(f"/api/assets/{ids[13]}/cancel")
        views(browser, edge, "ready", ("mirror",))
        edge.post("/api/mirror/start")
        eventually(60, "the bytes arrive", lambda: len(edge.assets(state="mirrored")) == 13)
        edge.post("/api/mirror/stop")
        for asset_id in ids[14:18]:
            edge.post(f"/api/assets/{asset_id}/request")
        core.post(f"/api/assets/{ids[20]}/withdraw", {"reason": "shows a face"})
        for site in (core, edge):
            views(browser, site, "busy")
            views(browser, site, "dark", color_scheme="dark")
            views(browser, site, "phone", viewport=PHONE, device_scale_factor=2)
            asset(browser, site, ids[0], "delivered")
            asset(browser, site, ids[0], "phone", viewport=PHONE, device_scale_factor=2)
        dialog(browser, edge, "home", "account", "account")
        dialog(browser, edge, "home", "account", "account-phone", viewport=PHONE, device_scale_factor=2)
        dialog(browser, core, "users", "add-user", "add-user", color_scheme="dark")
        dialog(browser, core, f"assets/{ids[1]}", "withdraw", "withdraw")
        log(browser, edge, "mirror", "busy")
        log(browser, edge, "mirror", "phone", viewport=PHONE, device_scale_factor=2)
        edge.post("/api/link/pause")
        eventually(20, "the link pauses", lambda: edge.service("link")[0]["state"] == "paused")
        for asset_id in ids[18:20]:
            edge.post(f"/api/assets/{asset_id}/request")
        views(browser, edge, "link-paused", ("home", "assets", "link", "mirror"))
        for service in ("requester", "listener"):
            edge.post(f"/api/services/{service}/stop")
        eventually(20, "the services stop", lambda: edge.service("listener")[0]["state"] == "paused")
        views(browser, edge, "stopped", ("home", "services"))
    finally:
        running.stop()


def failed(browser: Browser, directory: Path) -> None:
    """A catalogue whose files cannot be had, and a machine that died."""
    source = directory / "unreadable"
    address = catalogue.many(source, 12)
    first = installation.demo(
        directory / "failed",
        catalogue=address,
        core_settings='[common]\ninstance = "machine-1"\n[feed]\ninterval = "1s"\nbatch = 2\n',
    )
    try:
        eventually(30, "some are announced", lambda: first.core.get("/api/assets?limit=1")["total"] > 3)
        for file in source.iterdir():
            file.unlink()
        eventually(60, "all are tried", lambda: first.core.get("/api/assets?limit=1")["total"] == 12)
        first.processes["demo"].kill()
    finally:
        first.stop()
    second = installation.demo(directory / "failed", catalogue=address, core_settings='[common]\ninstance = "machine-2"\n')
    try:
        for site in (second.core, second.edge):
            make_users(site)
        eventually(20, "the dead machine is silent", lambda: any(one["state"] == "silent" for one in second.core.service("feed")))
        views(browser, second.core, "failed", ("home", "assets", "services", "lanes"))
    finally:
        second.stop()


def apart(browser: Browser, directory: Path) -> None:
    """A site that is not connected, its test that fails, the same on a phone in the dark, and connected."""
    running = installation.demo(directory / "apart", more=("--not-connected", "edge-1"))
    edge, enrolment = running.edge, directory / "apart/data/edge-1.enrolment"
    try:
        make_users(edge)
        views(browser, edge, "apart", ("home", "set-up", "link"))
        with socket.create_server(("127.0.0.1", 0)) as silent:
            page = sign_in(browser, edge)
            page.goto("/#/set-up")
            page.get_by_test_id("set-up-file").set_input_files(enrolment)
            page.get_by_test_id("set-up-depot").fill(f"https://127.0.0.1:{silent.getsockname()[1]}")
            page.get_by_test_id("set-up-test").click()
            page.locator("[data-testid=set-up-step-certificate-depot][data-state=running]").wait_for()
            picture(page, "edge-1-set-up-running")
            page.context.close()
        for state, options in (("failed", {}), ("failed-phone-dark", {"viewport": PHONE, "color_scheme": "dark"})):
            page = sign_in(browser, edge, **options)
            page.goto("/#/set-up")
            page.get_by_test_id("set-up-file").set_input_files(enrolment)
            page.get_by_test_id("set-up-depot").fill("https://127.0.0.1:1")
            page.get_by_test_id("set-up-test").click()
            page.get_by_test_id("set-up-said").get_by_text("nobody answers").wait_for()
            picture(page, f"edge-1-set-up-{state}")
            page.context.close()
        edge.post("/api/set-up/connect", {"enrolment": enrolment.read_text(encoding="utf-8")})
        eventually(30, "the link is up", lambda: edge.get("/api/link")["state"] == "up")
        views(browser, edge, "connected", ("set-up",))
    finally:
        running.stop()


def down(browser: Browser, directory: Path) -> None:
    """A site that was connected, and whose headquarters cannot be reached any more, after a start of its machine too."""
    first = installation.demo(directory / "down", core_settings='[feed]\ninterval = "1s"\n')
    try:
        make_users(first.edge)
        eventually(60, "assets have arrived", lambda: first.edge.get("/api/assets?limit=1")["total"] > 16)
        ids = [one["asset_id"] for one in first.edge.get("/api/assets?limit=16")["assets"]]
        for asset_id in ids[:6]:
            first.edge.post(f"/api/assets/{asset_id}/request")
        eventually(60, "headquarters has answered", lambda: len(first.edge.assets(state="ready")) == 6)
        first.edge.post("/api/mirror/start")
        eventually(60, "the bytes arrive", lambda: len(first.edge.assets(state="mirrored")) == 6)
        eventually(150, "the link has a past", lambda: any(first.edge.get("/api/link/history?span=hour")["reached"]))
    finally:
        first.stop()
    second = installation.edge_alone(first, core="kafka://127.0.0.1:1")
    try:
        edge = second.edge
        for asset_id in ids[6:9]:
            edge.post(f"/api/assets/{asset_id}/request")
        eventually(60, "the link knows what waits here", lambda: edge.get("/api/link")["lag"]["up"])
        views(browser, edge, "link-down", ("home", "assets", "delivered", "mirror", "link", "set-up"))
        views(browser, edge, "link-down-dark", ("home", "link"), color_scheme="dark")
        views(browser, edge, "link-down-phone", ("home", "assets", "link"), viewport=PHONE, device_scale_factor=2)
    finally:
        second.stop()


def letters(browser: Browser, directory: Path) -> None:
    """A record that headquarters cannot read, for a newer program wrote it, or a disk has damaged it."""
    first = installation.demo(directory / "letters")
    try:
        first.core.post("/api/services/responder/stop")
        eventually(60, "assets have arrived", lambda: first.edge.get("/api/assets?limit=1")["total"] > 8)
        eventually(20, "responder pauses", lambda: first.core.service("responder")[0]["state"] == "paused")
        for asset in first.edge.get("/api/assets?limit=4")["assets"]:
            first.edge.post(f"/api/assets/{asset['asset_id']}/request")
        eventually(30, "the requests are at headquarters", lambda: asked(first.core) == 4)
    finally:
        first.stop()
    core = directory / "letters/data/core"
    newer = hashlib.sha256(b"a schema of the next version").digest()[:4]
    assert stored.change(core, "edge-1.ASSET_REQUEST", lambda value: value[:1] + newer + value[5:]) > 0
    second = installation.demo(directory / "letters", port=first.port)
    try:
        core = second.core
        make_users(core)
        core.post("/api/services/responder/start")
        eventually(30, "responder has refused them", lambda: core.get("/api/dead-letters")["dead_letters"])
        views(browser, core, "dead-letter", ("home", "dead-letters", "services"))
        views(browser, core, "dead-letter-phone", ("dead-letters",), viewport=PHONE, device_scale_factor=2)
        page = sign_in(browser, core, color_scheme="dark")
        page.goto("/#/dead-letters")
        page.get_by_test_id("redrive").first.click()
        page.get_by_test_id("toast").get_by_text("on its way again").wait_for()
        page.get_by_test_id("redriven").first.wait_for()
        picture(page, "core-dead-letters-redriven-dark")
        page.context.close()
    finally:
        second.stop()


def asked(core: Site) -> int:
    """How many requests of the first edge lie at headquarters."""
    return sum(one["high"] - one["low"] for one in core.get("/api/topics/edge-1.ASSET_REQUEST")["offsets"])


def edges(browser: Browser, directory: Path) -> None:
    """A headquarters with many edges: some work, some are late, one is cut off, one has never been heard of."""
    first = installation.demo(directory / "edges", edges=12)
    try:
        eventually(120, "all have reported", lambda: all(one["status"] for one in first.core.get("/api/sites")["sites"]))
        eventually(120, "all know some assets", lambda: all(first.sites[f"edge-{one}"].get("/api/assets?limit=1")["total"] > 4 for one in range(1, 13)))
    finally:
        first.stop()
    now = int(time.time() * 1000)
    hour = 3_600_000
    for edge, ago, problems in (("edge-10", 3 * hour, []), ("edge-11", 50 * hour, ["the disk is nearly full: 3.1 GiB of 58 GiB are left"]), ("edge-12", 200 * hour, [])):
        say = stored.edited("site_status.v2", lambda _, ago=ago, problems=problems: {"reported_at": now - ago, "problems": problems})
        assert stored.change(directory / "edges/data/core", f"{edge}.site-status", say) == 1
    second = installation.demo(directory / "edges", edges=9, places=12, port=first.port)
    try:
        core = second.core
        make_users(core)
        core.post("/api/sites", {"site": "edge-13", "certificate_sha256": hashlib.sha256(b"edge-13").hexdigest()})
        core.post("/api/sites/edge-12/revoke", {"reason": "the vehicle was stolen"})
        for number, many in ((1, 3), (4, 2), (7, 4)):
            site = second.sites[f"edge-{number}"]
            for asset in site.get(f"/api/assets?limit={many}")["assets"]:
                site.post(f"/api/assets/{asset['asset_id']}/request")
            if number != 4:
                site.post("/api/mirror/start")
        second.sites["edge-5"].post("/api/services/listener/stop")
        told = lambda edge: next(one["status"] for one in core.get("/api/sites")["sites"] if one["site"] == edge)  # noqa: E731
        eventually(90, "edge-5 says what is wrong", lambda: told("edge-5")["problems"])
        eventually(90, "edge-7 has got what it asked for", lambda: told("edge-7")["mirrored"])
        views(browser, core, "many-edges", ("home", "edges", "requests"))
        views(browser, core, "many-edges-dark", ("edges",), color_scheme="dark")
        views(browser, core, "many-edges-phone", ("home", "edges"), viewport=PHONE, device_scale_factor=2)
    finally:
        second.stop()


def many(browser: Browser, directory: Path) -> None:
    """More rows than anybody reads."""
    source = catalogue.many(directory / "many-files", MANY)
    running = installation.demo(directory / "many", catalogue=source, core_settings='[feed]\ninterval = "50ms"\nbatch = 500\n')
    core, edge = running.core, running.edge
    try:
        for site in (core, edge):
            make_users(site)
        eventually(600, "the edge knows all", lambda: edge.get("/api/assets?limit=1")["total"] == MANY)
        ids = [one["asset_id"] for one in edge.get("/api/assets?limit=60")["assets"]]
        for asset_id in ids[:40]:
            edge.post(f"/api/assets/{asset_id}/request")
        eventually(60, "headquarters has answered", lambda: len(edge.assets(state="ready")) == 40)
        for asset_id in ids[::7][:4]:
            edge.post(f"/api/assets/{asset_id}/cancel")
        edge.post("/api/mirror/start")
        eventually(60, "the bytes arrive", lambda: len(edge.assets(state="mirrored")) >= 30)
        for site in (core, edge):
            views(browser, site, "many", ("home", "assets"))
        views(browser, edge, "many-phone", ("assets",), viewport=PHONE, device_scale_factor=2)
        page = sign_in(browser, edge, color_scheme="dark")
        page.goto("/#/assets")
        page.get_by_test_id("assets").focus()

        def at_the_end() -> bool:
            page.keyboard.press("End")
            return page.locator("[aria-posinset]").last.get_attribute("aria-posinset") == str(MANY)

        eventually(60, "all rows are in the list", at_the_end)
        picture(page, "edge-1-assets-many-end-dark")
        page.get_by_test_id("search").fill("tile 07")
        picture(page, "edge-1-assets-many-searched-dark")
        page.context.close()
    finally:
        running.stop()


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    every = {take.__name__: take for take in (busy, failed, apart, down, letters, edges, many)}
    if unknown := set(sys.argv[1:]) - set(every):
        sys.exit(f"{', '.join(unknown)}: there are {', '.join(every)}")
    if not sys.argv[1:]:
        for old in OUT.glob("*.png"):
            old.unlink()
    with tempfile.TemporaryDirectory(prefix="fieldline-screenshots-") as made, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-dev-shm-usage"])
        for name in sys.argv[1:] or every:
            every[name](browser, Path(made))
        browser.close()
    print(f"{len(list(OUT.glob('*.png')))} pictures")


if __name__ == "__main__":
    main()
