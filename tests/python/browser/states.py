"""The states in which the pages can be: how each comes about, and where it is shown.

Pictures are taken of all of them (`screenshots.py`), and axe-core looks at all of them (`test_accessibility.py`). Each
function brings about some states of an installation of its own and shows them on a stage.
"""
import hashlib
import json
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect

import catalogue
import damaged
import installation
import stored
from accessible import PHONE
from api import Site, eventually
from conftest import PASSWORD, make_users
from installation import Installation
from keys import press

EDGE = ("home", "assets", "delivered", "mirror", "link", "set-up", "services", "dead-letters", "audit", "users")
CORE = ("home", "lanes", "assets", "requests", "edges", "services", "dead-letters", "audit", "users")
WIDE = {"width": 1280, "height": 800}
ON_A_PHONE = {"viewport": PHONE, "device_scale_factor": 2}
MANY = 10_000


@dataclass
class Stage:
    """Shows pages to whoever looks at them: `look` is given each page and the name of what it shows."""

    browser: Browser
    look: Callable[[Page, str], None]
    # Leaves out what takes long to come about and shows nothing of another kind, as a second dozen of edges.
    hurried: bool = False

    @property
    def feed(self) -> str:
        """Settings of a feed that soon has announced enough."""
        return f'[feed]\ninterval = "{100 if self.hurried else 300}ms"\n'

    def end(self, running: Installation) -> None:
        """Ends an installation that nobody goes on with."""
        if self.hurried:
            for process in running.processes.values():
                process.kill()
        running.stop()

    @contextmanager
    def page(self, site: Site, user: str | None = "olga", **options) -> Iterator[Page]:
        options = {"viewport": WIDE, "reduced_motion": "reduce", **options}
        context = self.browser.new_context(base_url=site.url, **options)
        try:
            if user:
                words = {"user": user, "password": PASSWORD}
                answer = context.request.post("/api/session", data=words, headers={"x-fieldline": "1"})
                assert answer.ok, answer.text()
            yield context.new_page()
        finally:
            context.close()

    def views(self, site: Site, state: str, only: tuple[str, ...] = (), **options) -> None:
        with self.page(site, **options) as page:
            for view in only or (CORE if site.name == "core" else EDGE):
                page.goto(f"/#/{view}")
                page.locator("h1").wait_for()
                self.look(page, f"{site.name}-{view}-{state}")

    def asset(self, site: Site, asset_id: str, state: str, **options) -> None:
        with self.page(site, **options) as page:
            page.goto(f"/#/assets/{asset_id}")
            page.get_by_test_id("state").wait_for()
            self.look(page, f"{site.name}-asset-{state}")

    def log(self, site: Site, service: str, state: str, **options) -> None:
        with self.page(site, **options) as page:
            page.goto("/#/services")
            page.get_by_test_id(f"service-{service}-logs").click()
            page.get_by_test_id(f"log-{service}").locator("li").first.wait_for()
            page.get_by_test_id(f"log-{service}").scroll_into_view_if_needed()
            self.look(page, f"{site.name}-log-{state}")

    def dialog(self, site: Site, view: str, button: str | Callable[[Page], Locator], state: str, **options) -> None:
        with self.page(site, **options) as page:
            page.goto(f"/#/{view}")
            (page.get_by_test_id(button).first if isinstance(button, str) else button(page)).click()
            page.get_by_role("dialog").wait_for()
            self.look(page, f"{site.name}-{state}")


def empty(stage: Stage, directory: Path) -> None:
    """A site that has just been made: nothing is announced, nobody asked for anything, there are no users."""
    (directory / "no-files").mkdir(parents=True)
    running = installation.demo(directory / "empty", catalogue=f"dir://{directory / 'no-files'}")
    try:
        for site in (running.core, running.edge):
            ticket = site.post("/api/tickets", {"user": "guest", "role": "operator"})["ticket"]
            with stage.page(site, user=None) as page:
                page.goto(f"/#/sign-in/{ticket}")
                page.get_by_test_id("nav-users").click()
                page.get_by_text("No users yet.").wait_for()
                stage.look(page, f"{site.name}-users-empty")
            make_users(site)
            stage.views(site, "empty", tuple(one for one in (CORE if site.name == "core" else EDGE) if one not in ("users", "link", "set-up")))
        stage.views(running.edge, "empty-phone", ("home", "assets", "delivered"), **ON_A_PHONE)
        with stage.page(running.core) as page:
            # A demo has an edge from the start; other headquarters have none at first.
            page.route("**/api/sites", lambda route: route.fulfill(json={"sites": []}))
            page.goto("/#/edges")
            page.get_by_text("No edge is enrolled.").wait_for()
            stage.look(page, "core-edges-empty")
    finally:
        stage.end(running)


def busy(stage: Stage, directory: Path) -> None:
    """Assets in many states, pictures that arrived, and the same in the dark, on a phone, offline and with trouble."""
    running = installation.demo(directory / "busy", core_settings=stage.feed)
    core, edge = running.core, running.edge
    try:
        for site in (core, edge):
            make_users(site)
            for state, options in (("sign-in", {}), ("sign-in-dark", {"color_scheme": "dark"})):
                with stage.page(site, user=None, **options) as page:
                    page.goto("/")
                    page.get_by_test_id("sign-in").wait_for()
                    stage.look(page, f"{site.name}-{state}")
        eventually(90, "assets have arrived", lambda: edge.get("/api/assets?limit=1")["total"] > 40)
        ids = [one["asset_id"] for one in edge.get("/api/assets?limit=24")["assets"]]
        for asset_id in ids[:14]:
            edge.post(f"/api/assets/{asset_id}/request")
        eventually(60, "headquarters has answered", lambda: len(edge.assets(state="ready")) == 14)
        edge.post(f"/api/assets/{ids[13]}/cancel")
        stage.views(edge, "ready", ("mirror",))
        edge.post("/api/mirror/start")
        eventually(60, "the bytes arrive", lambda: len(edge.assets(state="mirrored")) == 13)
        edge.post("/api/mirror/stop")
        for asset_id in ids[14:18]:
            edge.post(f"/api/assets/{asset_id}/request")
        core.post(f"/api/assets/{ids[20]}/withdraw", {"reason": "shows a face"})
        for site in (core, edge):
            stage.views(site, "busy")
            stage.views(site, "dark", color_scheme="dark")
            stage.views(site, "phone", **ON_A_PHONE)
            stage.asset(site, ids[0], "delivered")
            stage.asset(site, ids[0], "phone", **ON_A_PHONE)
        chosen(stage, edge)
        stage.dialog(edge, "home", "account", "account")
        stage.dialog(edge, "home", "account", "account-phone", **ON_A_PHONE)
        stage.dialog(core, "users", "add-user", "add-user", color_scheme="dark")
        stage.dialog(core, "users", "role-vera", "user-role")
        for name, state in (("New password", "user-password"), ("Remove", "user-remove")):
            stage.dialog(core, "users", lambda page, name=name: page.get_by_test_id("user-vera").get_by_role("button", name=name), state)
        stage.dialog(core, f"assets/{ids[1]}", "withdraw", "withdraw")
        stage.dialog(core, f"assets/{ids[1]}", "expiry", "expiry", **ON_A_PHONE)
        stage.dialog(edge, "link", "limit-windows-change", "limit-windows", color_scheme="dark")
        stage.log(edge, "mirror", "busy")
        stage.log(edge, "mirror", "phone", **ON_A_PHONE)
        edge.post("/api/link", {"budget": {"metered": True, "per_day": "500MB"}})
        eventually(60, "the link holds bulk back", lambda: any(one["held"] for one in edge.get("/api/link")["limits"]["classes"]))
        stage.views(edge, "metered", ("link",))
        stage.dialog(edge, "link", "allow", "limit-allow", **ON_A_PHONE)
        edge.post("/api/link", {"as_configured": ["budget/metered", "budget/per_day"]})
        edge.post("/api/link/pause")
        eventually(60, "the link pauses", lambda: edge.service("link")[0]["state"] == "paused")
        for asset_id in ids[18:20]:
            edge.post(f"/api/assets/{asset_id}/request")
        stage.views(edge, "link-paused", ("home", "assets", "link", "mirror"))
        for service in ("requester", "listener"):
            edge.post(f"/api/services/{service}/stop")
        eventually(60, "the services stop", lambda: edge.service("listener")[0]["state"] == "paused")
        stage.views(edge, "stopped", ("home", "services"))
    finally:
        stage.end(running)


def chosen(stage: Stage, edge: Site) -> None:
    """Rows that are selected, with what they will cost; and what is said once they are requested."""
    with stage.page(edge, user="fred") as page:
        page.goto("/#/assets")
        page.get_by_test_id("filter-state").select_option("available")
        expect(page.get_by_test_id("assets")).to_have_attribute("aria-busy", "false")
        rows = page.locator("[role=option][data-state=available]")
        for number in range(3):
            rows.nth(number).click()
        expect(page.get_by_test_id("cost")).to_contain_text("3 selected")
        stage.look(page, f"{edge.name}-assets-selected")
        page.get_by_test_id("search").fill("no asset has this title")
        page.get_by_text("Nothing matches.").wait_for()
        stage.look(page, f"{edge.name}-assets-nothing-matches")
        page.get_by_test_id("search").fill("")
        expect(page.get_by_test_id("cost")).to_contain_text("3 selected")
        page.route("**/request", lambda route: route.fulfill(status=503, json={"detail": "the site's table does not answer"}))
        page.get_by_test_id("request").click()
        page.get_by_test_id("toast").get_by_text("3 not requested").wait_for()
        stage.look(page, f"{edge.name}-assets-not-requested")
    with stage.page(edge, user="fred", color_scheme="dark") as page:
        page.goto("/#/mirror")
        page.get_by_test_id("order-last").first.click()
        page.get_by_text("priority -1").wait_for()
        stage.look(page, f"{edge.name}-mirror-ordered-dark")
        page.get_by_test_id("mirror-start").click()
        page.get_by_test_id("toast").locator("div").first.wait_for()
        stage.look(page, f"{edge.name}-mirror-told-dark")


def underway(stage: Stage, directory: Path) -> None:
    """A mirror at work on a thin line, and stopped halfway; and requests that headquarters refuses."""
    made = random.Random(7)
    files = {f"scan-{number:02}.bin": (made.randbytes(300_000), {"title": f"Scan of sheet {number}"}) for number in range(12)}
    files |= {f"survey-{number}.bin": (made.randbytes(900_000), None) for number in range(2)}
    running = installation.demo(
        directory / "underway",
        catalogue=catalogue.with_sidecars(directory / "scans", files),
        core_settings='[feed]\ninterval = "100ms"\n[responder]\nmax_bytes = "500KB"\n',
    )
    core, edge = running.core, running.edge
    try:
        for site in (core, edge):
            make_users(site)
        eventually(60, "all are known", lambda: edge.get("/api/assets?limit=1")["total"] == len(files))
        for asset in edge.assets():
            edge.post(f"/api/assets/{asset['asset_id']}/request")
        eventually(60, "headquarters has answered", lambda: (len(edge.assets(state="ready")), len(edge.assets(state="refused"))) == (12, 2))
        stage.views(edge, "refused", ("home", "assets"))
        stage.asset(edge, edge.assets(state="refused")[0]["asset_id"], "refused", **ON_A_PHONE)
        stage.views(core, "refused", ("requests", "lanes"))
        stage.views(core, "refused-dark", ("requests",), color_scheme="dark")
        edge.post("/api/link", {"budget": {"cap": "60KB"}})
        edge.post("/api/mirror/start")

        def moving() -> bool:
            gauges = edge.service("mirror")[0]["gauges"]
            return 0 < gauges.get("bytes_done", 0) < gauges.get("bytes_total", 0) and gauges.get("bytes_per_second", 0) > 0

        eventually(60, "the mirror is under way", moving)
        stage.views(edge, "underway", ("mirror", "home", "services", "link"))
        stage.views(edge, "underway-phone-dark", ("mirror",), color_scheme="dark", **ON_A_PHONE)
        edge.post("/api/mirror/stop")
        eventually(60, "the mirror stops", lambda: edge.service("mirror")[0]["state"] == "paused")
        stage.views(edge, "halfway", ("mirror", "delivered"))
    finally:
        stage.end(running)


def trouble(stage: Stage, directory: Path) -> None:
    """A site where nobody signs in, one that does not answer to a page, and one that is gone."""
    running = installation.demo(directory / "trouble", core_settings='[viewer]\nsign_in = "off"\n[feed]\ninterval = "500ms"\n')
    core, edge = running.core, running.edge
    try:
        make_users(edge)
        stage.views(core, "open-to-all", ("home",), user=None)
        stage.views(core, "open-to-all-phone-dark", ("home",), user=None, color_scheme="dark", **ON_A_PHONE)
        problem = {"title": "Service Unavailable", "status": 503, "detail": "the site's table does not answer", "hint": "try again in a moment"}
        refuse = lambda route: route.fulfill(status=503, content_type="application/problem+json", body=json.dumps(problem))  # noqa: E731
        some = ("home", "assets")
        for state, views, options in (("no-answer", EDGE, {}), ("no-answer-dark", some, {"color_scheme": "dark"}), ("no-answer-phone", some, ON_A_PHONE)):
            with stage.page(edge, **options) as page:
                page.route(lambda url: "/api/" in url and not url.endswith(("/api/session", "/api/events")), refuse)
                for view in views:
                    page.goto(f"/#/{view}")
                    page.get_by_role("alert").first.wait_for()
                    stage.look(page, f"edge-1-{view}-{state}")
        with stage.page(edge) as page, stage.page(edge, color_scheme="dark", **ON_A_PHONE) as phone:
            for one in (page, phone):
                one.goto("/#/services")
                one.get_by_test_id("service-link").wait_for()
            running.processes["demo"].kill()
            for one, name in ((page, "lost"), (phone, "lost-phone-dark")):
                one.get_by_text("This page has lost its site").wait_for()
                stage.look(one, f"edge-1-services-{name}")
    finally:
        stage.end(running)


def failed(stage: Stage, directory: Path) -> None:
    """A catalogue whose files cannot be had, and a machine that died."""
    source = directory / "unreadable"
    address = catalogue.many(source, 12)
    first = installation.demo(
        directory / "failed",
        catalogue=address,
        core_settings='[common]\ninstance = "machine-1"\n[feed]\ninterval = "1s"\nbatch = 2\n',
    )
    try:
        eventually(60, "some are announced", lambda: first.core.get("/api/assets?limit=1")["total"] > 3)
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
        eventually(60, "the dead machine is silent", lambda: any(one["state"] == "silent" for one in second.core.service("feed")))
        stage.views(second.core, "failed", ("home", "assets", "services", "lanes"))
    finally:
        stage.end(second)


def enter(page: Page, enrolment: Path, depot: str) -> None:
    """Gives a page an enrolment, with another address of the depot."""
    page.get_by_test_id("set-up-file").set_input_files(enrolment)
    # Its file, once it is read, fills the addresses in.
    page.get_by_test_id("set-up-site").wait_for()
    page.get_by_test_id("set-up-depot").fill(depot)


def begin_test(page: Page) -> None:
    """Begins a test; a site that has not noticed yet that who tested before has left refuses it."""
    tried = page.locator(",".join(f"[data-testid^=set-up-step-][data-state={state}]" for state in ("running", "passed", "failed")))
    button = page.get_by_test_id("set-up-test")

    def begun() -> bool:
        if button.is_visible():
            button.click(timeout=1000)
        tried.first.wait_for(timeout=1000)
        return True

    eventually(60, "a test begins", begun)


def apart(stage: Stage, directory: Path) -> None:
    """A site that is not connected, its test that fails, the same on a phone in the dark, and connected."""
    running = installation.demo(directory / "apart", more=("--not-connected", "edge-1"))
    edge, enrolment = running.edge, directory / "apart/data/edge-1.enrolment"
    try:
        make_users(edge)
        stage.views(edge, "apart", ("home", "set-up", "link"))
        with socket.create_server(("127.0.0.1", 0)) as silent, stage.page(edge) as page:
            page.goto("/#/set-up")
            enter(page, enrolment, f"https://127.0.0.1:{silent.getsockname()[1]}")
            begin_test(page)
            page.locator("[data-testid=set-up-step-certificate-depot][data-state=running]").wait_for()
            stage.look(page, "edge-1-set-up-running")
        for state, options in (("failed", {}), ("failed-phone-dark", {"viewport": PHONE, "color_scheme": "dark"})):
            with stage.page(edge, **options) as page:
                page.goto("/#/set-up")
                enter(page, enrolment, "https://127.0.0.1:1")
                begin_test(page)
                page.get_by_test_id("set-up-said").get_by_text("nobody answers").wait_for()
                stage.look(page, f"edge-1-set-up-{state}")
        edge.post("/api/set-up/connect", {"enrolment": enrolment.read_text(encoding="utf-8")})
        eventually(60, "the link is up", lambda: edge.get("/api/link")["state"] == "up")
        stage.views(edge, "connected", ("set-up",))
    finally:
        stage.end(running)


def down(stage: Stage, directory: Path) -> None:
    """A site that was connected, and whose headquarters cannot be reached any more, after a start of its machine too."""
    first = installation.demo(directory / "down", core_settings=stage.feed)
    try:
        make_users(first.edge)
        eventually(60, "assets have arrived", lambda: first.edge.get("/api/assets?limit=1")["total"] > 16)
        ids = [one["asset_id"] for one in first.edge.get("/api/assets?limit=16")["assets"]]
        for asset_id in ids[:6]:
            first.edge.post(f"/api/assets/{asset_id}/request")
        eventually(60, "headquarters has answered", lambda: len(first.edge.assets(state="ready")) == 6)
        first.edge.post("/api/mirror/start")
        eventually(60, "the bytes arrive", lambda: len(first.edge.assets(state="mirrored")) == 6)
        if not stage.hurried:
            eventually(150, "the link has a past", lambda: any(first.edge.get("/api/link/history?span=hour")["reached"]))
    finally:
        first.stop()
    second = installation.edge_alone(first, core="kafka://127.0.0.1:1")
    try:
        edge = second.edge
        for asset_id in ids[6:9]:
            edge.post(f"/api/assets/{asset_id}/request")
        eventually(60, "the link is down", lambda: edge.get("/api/link")["state"] == "down")
        if not stage.hurried:
            # A link that ran for seconds only does not know how far it had come.
            eventually(60, "the link knows what waits here", lambda: edge.get("/api/link")["lag"]["up"])
        stage.views(edge, "link-down", ("home", "assets", "delivered", "mirror", "link", "set-up"))
        stage.views(edge, "link-down-dark", ("home", "link"), color_scheme="dark")
        stage.views(edge, "link-down-phone", ("home", "assets", "link"), **ON_A_PHONE)
    finally:
        stage.end(second)


def letters(stage: Stage, directory: Path) -> None:
    """A record that headquarters cannot read, for a newer program wrote it, or a disk has damaged it."""
    second = damaged.demo(directory / "letters", 4, stage.feed)
    try:
        core = second.core
        make_users(core)
        core.post("/api/services/responder/start")
        eventually(60, "responder has refused them", lambda: core.get("/api/dead-letters")["dead_letters"])
        stage.views(core, "dead-letter", ("home", "dead-letters", "services"))
        stage.views(core, "dead-letter-phone", ("dead-letters",), **ON_A_PHONE)
        with stage.page(core, color_scheme="dark") as page:
            page.goto("/#/dead-letters")
            # With the keys alone, as `test_keyboard.py` says of every button.
            press(page, page.get_by_test_id("redrive").first)
            page.get_by_test_id("toast").get_by_text("on its way again").wait_for()
            page.get_by_test_id("redriven").first.wait_for()
            stage.look(page, "core-dead-letters-redriven-dark")
    finally:
        stage.end(second)


def edges(stage: Stage, directory: Path) -> None:
    """A headquarters with many edges: some work, some are late, one is cut off, one has never been heard of."""
    # The last three are those that end; in a hurry one more is enough.
    count = 4 if stage.hurried else 12
    late, full, stolen = (f"edge-{count - back}" for back in (2, 1, 0))
    first = installation.demo(directory / "edges", edges=count, core_settings=stage.feed)
    try:
        eventually(120, "all have reported", lambda: all(one["status"] for one in first.core.get("/api/sites")["sites"]))
        eventually(120, "all know some assets", lambda: all(first.sites[f"edge-{one}"].get("/api/assets?limit=1")["total"] > 4 for one in range(1, count + 1)))
    finally:
        first.stop()
    now = int(time.time() * 1000)
    hour = 3_600_000
    for edge, ago, problems in ((late, 3 * hour, []), (full, 50 * hour, ["the disk is nearly full: 3.1 GiB of 58 GiB are left"]), (stolen, 200 * hour, [])):
        say = stored.edited("site_status.v2", lambda _, ago=ago, problems=problems: {"reported_at": now - ago, "problems": problems})
        assert stored.change(directory / "edges/data/core", f"{edge}.site-status", say) == 1
    second = installation.demo(directory / "edges", edges=count - 3, places=count, port=first.port)
    try:
        core = second.core
        make_users(core)
        core.post("/api/sites", {"site": f"edge-{count + 1}", "certificate_sha256": hashlib.sha256(b"new").hexdigest()})
        core.post(f"/api/sites/{stolen}/revoke", {"reason": "the vehicle was stolen"})
        told = lambda edge: next(one["status"] for one in core.get("/api/sites")["sites"] if one["site"] == edge)  # noqa: E731
        if not stage.hurried:
            for number, many in ((1, 3), (4, 2), (7, 4)):
                site = second.sites[f"edge-{number}"]
                for asset in site.get(f"/api/assets?limit={many}")["assets"]:
                    site.post(f"/api/assets/{asset['asset_id']}/request")
                if number != 4:
                    site.post("/api/mirror/start")
            second.sites["edge-5"].post("/api/services/listener/stop")
            eventually(90, "edge-5 says what is wrong", lambda: told("edge-5")["problems"])
            eventually(90, "edge-7 has got what it asked for", lambda: told("edge-7")["mirrored"])
        stage.views(core, "many-edges", ("home", "edges", "requests"))
        stage.views(core, "many-edges-dark", ("edges",), color_scheme="dark")
        stage.views(core, "many-edges-phone", ("home", "edges"), **ON_A_PHONE)
    finally:
        stage.end(second)


def many(stage: Stage, directory: Path) -> None:
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
            stage.views(site, "many", ("home", "assets"))
        stage.views(edge, "many-phone", ("assets",), **ON_A_PHONE)
        with stage.page(edge, color_scheme="dark") as page:
            page.goto("/#/assets")
            page.get_by_test_id("assets").focus()

            def at_the_end() -> bool:
                page.keyboard.press("End")
                return page.locator("[aria-posinset]").last.get_attribute("aria-posinset") == str(MANY)

            eventually(60, "all rows are in the list", at_the_end)
            stage.look(page, "edge-1-assets-many-end-dark")
            page.get_by_test_id("search").fill("tile 07")
            stage.look(page, "edge-1-assets-many-searched-dark")
    finally:
        stage.end(running)


ALL = (empty, busy, underway, trouble, failed, apart, down, letters, edges, many)
