"""What a field team does with what it asked for: says what comes first, starts and stops the mirror, and has the files."""
import base64
import io
import math
import random
import re
import struct
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

import catalogue
import installation
from api import Site, eventually
from conftest import OpenPage, make_users
from installation import Installation
from line import push_nothing, wait_for_stream

TABLE = b"station,height_m\nnorth,12\nsouth,7\n"
LARGE = ("first survey", "second survey", "third survey")
LARGE_BYTES = 1_500_000
# Headquarters lets everybody in, and says so.
SETTINGS = '[feed]\ninterval = "100ms"\nbatch = 20\n[viewer]\nsign_in = "off"\n'
# Slow enough that people can look on, and stop it.
CAP = "100KB"
# The browser itself makes a film: half a second of a square that moves.
FILM = """async () => {
    const canvas = document.createElement("canvas");
    const pen = canvas.getContext("2d");
    const recorder = new MediaRecorder(canvas.captureStream(20), { mimeType: "video/webm" });
    const parts = [];
    recorder.ondataavailable = (event) => parts.push(event.data);
    const over = new Promise((resolve) => (recorder.onstop = resolve));
    recorder.start();
    for (let at = 0; at < 12; at += 1) {
        pen.fillStyle = at % 2 ? "teal" : "orange";
        pen.fillRect(at * 10, at * 8, 60, 40);
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
    recorder.stop();
    await over;
    const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
    return btoa(String.fromCharCode(...bytes));
}"""


def sound() -> bytes:
    """A second of a tone."""
    rate = 8000
    samples = (int(9000 * math.sin(2 * math.pi * 440 * at / rate)) for at in range(rate))
    kept = io.BytesIO()
    with wave.open(kept, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return kept.getvalue()


def film(browser: Browser) -> bytes:
    page = browser.new_page()
    try:
        return base64.b64decode(page.evaluate(FILM))
    finally:
        page.close()


@pytest.fixture(scope="module")
def moving(directory: Path, browser: Browser) -> Iterator[Installation]:
    """A core that offers files of many kinds, and an edge that has none of them yet."""
    titled = lambda title: {"title": title}  # noqa: E731
    files = {
        "table.csv": (TABLE, titled("a table")),
        "sound.wav": (sound(), titled("a sound")),
        "film.webm": (film(browser), titled("a film")),
        "one.png": (catalogue.png(1, 64), titled("picture one")),
        "two.png": (catalogue.png(2, 64), titled("picture two")),
        **{f"{title}.bin": (b"\0" + random.Random(title).randbytes(LARGE_BYTES), titled(title)) for title in LARGE},
    }
    source = catalogue.with_sidecars(directory / "moving-files", files)
    running = installation.demo(directory / "moving", catalogue=source, core_settings=SETTINGS)
    try:
        make_users(running.edge)
        eventually(60, "the edge knows all", lambda: running.edge.get("/api/assets?limit=1")["total"] == len(files))
        yield running
    finally:
        running.stop()


def by_title(site: Site) -> dict[str, str]:
    return {asset["title"]: asset["asset_id"] for asset in site.assets()}


def ask(edge: Site, *titles: str) -> list[str]:
    """Asks for what is not here, and waits for headquarters."""
    known = by_title(edge)
    ids = [known[title] for title in titles]
    for asset_id in ids:
        if edge.state(asset_id) not in ("ready", "mirrored"):
            edge.post(f"/api/assets/{asset_id}/request")
    for asset_id in ids:
        eventually(60, "headquarters answers", lambda asset_id=asset_id: edge.state(asset_id) in ("ready", "mirrored"))
    return ids


def bring(edge: Site, *titles: str) -> list[str]:
    """As above, and their bytes are here."""
    ids = ask(edge, *titles)
    edge.post("/api/mirror/start")
    for asset_id in ids:
        eventually(60, "the bytes arrive", lambda asset_id=asset_id: edge.state(asset_id) == "mirrored")
    eventually(60, "the mirror rests", lambda: edge.get("/api/mirror")["desired"] == "paused")
    return ids


def test_the_team_says_what_comes_first_and_stops_the_mirror_and_lets_it_go_on(moving: Installation, open_page: OpenPage) -> None:
    edge = moving.edge
    ask(edge, *LARGE)
    edge.post("/api/link", {"budget": {"cap": CAP}})
    page = open_page(edge, "fred", "#/mirror")
    queue = page.get_by_test_id("mirror-queue").locator("li")
    expect(queue).to_have_count(len(LARGE))
    first, *_, last = (one.split("\n")[0] for one in queue.all_inner_texts())
    queue.filter(has_text=last).get_by_test_id("order-first").click()
    expect(queue.first).to_contain_text(last)
    queue.filter(has_text=first).get_by_test_id("order-last").click()
    expect(queue.last).to_contain_text(first)
    assert [one["title"] for one in edge.get("/api/mirror/queue")["queue"]][:: len(LARGE) - 1] == [last, first]
    page.get_by_test_id("mirror-start").click()
    expect(page.get_by_test_id("toast")).to_contain_text("told to start")
    progress = page.get_by_test_id("mirror-progress")
    expect(progress).to_contain_text("/s", timeout=60_000)
    expect(progress).to_contain_text("to go")
    expect(progress).to_contain_text("of 4.3 MiB")
    page.get_by_test_id("mirror-stop").click()
    expect(page.get_by_test_id("toast")).to_contain_text("told to stop")
    expect(page.get_by_test_id("mirror-state")).to_have_attribute("data-state", "paused", timeout=60_000)
    # What has come is kept and shown; a mirror that does nothing has no rate, and no time to go.
    expect(progress).to_contain_text("left")
    expect(progress).not_to_contain_text("/s")
    expect(progress).not_to_contain_text("to go")
    edge.post("/api/link", {"as_configured": ["budget/cap"]})
    page.get_by_test_id("mirror-start").click()
    expect(queue).to_have_count(0, timeout=60_000)
    expect(page.get_by_test_id("mirror-estimate")).to_contain_text("Nothing waits to be fetched")
    eventually(60, "all are here", lambda: all(edge.state(by_title(edge)[title]) == "mirrored" for title in LARGE))


@pytest.mark.parametrize("state", ["silent", "waiting", "running"])
def test_only_a_mirror_that_works_has_a_rate(moving: Installation, open_page: OpenPage, state: str) -> None:
    edge = moving.edge
    bring(edge, "picture one")
    told = edge.get("/api/mirror")
    [instance, *_] = told["instances"]
    gauges = {"bytes_total": 4e6, "bytes_done": 1e6, "entries_left": 2, "bytes_per_second": 5e5}
    at = instance["reported_at"] - 90_000
    told |= {"desired": "running", "instances": [instance | {"state": state, "detail": "the depot is away", "gauges": gauges, "reported_at": at}]}
    page = open_page(edge, "fred", "#/home")
    page.route("**/api/mirror", lambda route: route.fulfill(json=told))
    push_nothing(page)
    page.get_by_test_id("nav-mirror").click()
    progress = page.get_by_test_id("mirror-progress")
    expect(progress).to_contain_text("2 assets left")
    if state == "running":
        expect(progress).to_contain_text("488 KiB/s · 6 s to go")
    else:
        expect(progress).not_to_contain_text("/s")
    if state == "silent":
        expect(progress).to_contain_text("as of 1 min ago")
        expect(page.get_by_test_id("mirror-ended")).to_contain_text("Start it on its machine")
    else:
        expect(page.get_by_test_id("mirror-ended")).to_have_count(0)


def test_a_file_that_is_no_picture_is_saved_whole(moving: Installation, open_page: OpenPage) -> None:
    [asset_id] = bring(moving.edge, "a table")
    page = open_page(moving.edge, "vera", f"#/assets/{asset_id}")
    expect(page.locator("figure")).to_contain_text("not shown here: save it")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save").click()
    assert saved.value.path().read_bytes() == TABLE
    assert saved.value.suggested_filename == "table.csv"


@pytest.mark.parametrize(("title", "kind"), [("a sound", "audio"), ("a film", "video")])
def test_sounds_and_films_are_played_in_place(moving: Installation, open_page: OpenPage, title: str, kind: str) -> None:
    [asset_id] = bring(moving.edge, title)
    page = open_page(moving.edge, "vera", f"#/assets/{asset_id}")
    player = page.locator(f"{kind}[data-testid=player]")
    expect(player).to_be_visible()
    eventually(60, "it can be played", lambda: player.evaluate("one => one.readyState >= 1 && one.duration > 0"))
    player.evaluate("one => { one.muted = true; return one.play(); }")
    eventually(60, "it plays", lambda: player.evaluate("one => one.currentTime > 0"))


def test_evicting_asks_first_and_gives_the_room_back(moving: Installation, open_page: OpenPage) -> None:
    edge = moving.edge
    [asset_id] = bring(edge, LARGE[0])
    used = edge.get("/api/volume")["used_bytes"]
    page = open_page(edge, "fred", f"#/assets/{asset_id}")
    page.get_by_test_id("pin").click()
    expect(page.get_by_test_id("pin")).to_have_text("Unpin")
    expect(page.get_by_text("Pinned", exact=True)).to_be_visible()
    page.get_by_test_id("pin").click()
    expect(page.get_by_test_id("pin")).to_have_text("Pin")
    page.get_by_test_id("evict").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("1.4 MiB are deleted")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    assert edge.state(asset_id) == "mirrored", "nothing was evicted"
    page.get_by_test_id("nav-mirror").click()
    before = page.get_by_test_id("disk").inner_text()
    page.goto(f"/#/assets/{asset_id}")
    page.get_by_test_id("evict").click()
    page.get_by_test_id("confirm").click()
    expect(page.get_by_test_id("state")).to_have_attribute("data-state", "available")
    expect(page.get_by_test_id("evict")).to_have_count(0)
    page.get_by_test_id("nav-mirror").click()
    expect(page.get_by_test_id("disk")).not_to_have_text(before)
    eventually(60, "the room is given back", lambda: edge.get("/api/volume")["used_bytes"] < used - LARGE_BYTES)


def test_what_a_request_will_cost_is_said_with_the_rate_and_when_it_was_measured(moving: Installation, open_page: OpenPage) -> None:
    edge = moving.edge
    [asset_id] = bring(edge, LARGE[1])
    edge.post(f"/api/assets/{asset_id}/evict")
    eventually(60, "it is on offer again", lambda: edge.state(asset_id) == "available")
    measured = re.compile(r"1\.4 MiB, (about )?(less than )?\d+ (s|min).* at [\d.]+ [KMG]?i?B/s, measured (just now|\d+ (s|min) ago)\.$")
    page = open_page(edge, "fred", f"#/assets/{asset_id}")
    expect(page.get_by_test_id("cost")).to_have_text(measured)
    page.get_by_test_id("nav-assets").click()
    page.get_by_test_id("search").fill(LARGE[1])
    page.get_by_test_id(f"asset-{asset_id}").click()
    expect(page.get_by_test_id("cost")).to_have_text(re.compile(r"^1 selected · will cost 1\.4 MiB, .*\d+ (s|min).* at [\d.]+ [KMG]?i?B/s$"))
    expect(page.get_by_role("group", name="With what is selected")).to_contain_text(re.compile(r", measured (just now|\d+ (s|min) ago)"))
    ask(edge, LARGE[1])
    page.get_by_test_id("nav-mirror").click()
    estimate = page.get_by_test_id("mirror-estimate")
    expect(estimate).to_contain_text("1 requested asset is ready")
    expect(estimate).to_have_text(measured)


def test_delivered_follows_what_comes_and_goes_without_being_read_again(moving: Installation, open_page: OpenPage) -> None:
    edge = moving.edge
    stays, goes = bring(edge, "picture one", "picture two")
    page = open_page(edge, "fred", "#/link")
    wait_for_stream(page)
    page.get_by_test_id("nav-delivered").click()
    gallery = page.get_by_test_id("gallery")
    picture = lambda asset_id: gallery.locator(f"a[href='#/assets/{asset_id}']")  # noqa: E731
    expect(picture(goes)).to_be_visible()
    here = edge.get("/api/mirror")["mirrored"]["assets"]
    expect(page.get_by_test_id("delivered-total")).to_have_text(f"{here} here")
    reads: list[str] = []
    page.on("request", lambda request: "/api/assets?" in request.url and reads.append(request.url))
    edge.post(f"/api/assets/{goes}/evict")
    expect(picture(goes)).to_have_count(0)
    expect(page.get_by_test_id("delivered-total")).to_have_text(f"{here - 1} here")
    bring(edge, "picture two")
    expect(picture(goes)).to_be_visible()
    expect(picture(stays)).to_be_visible()
    expect(page.get_by_test_id("delivered-total")).to_have_text(f"{here} here")
    shown = [link.split("/")[-1] for link in gallery.locator("a").evaluate_all("all => all.map(one => one.getAttribute('href'))")]
    assert shown == [one["asset_id"] for one in edge.get("/api/assets?state=mirrored&limit=200")["assets"]]
    assert not reads, "changes are put in where they belong"


def test_a_page_that_lets_everybody_in_says_so(moving: Installation, open_page: OpenPage) -> None:
    page = open_page(moving.core, None, "#/assets")
    expect(page.get_by_test_id("sign-in-off")).to_contain_text('Set viewer.sign_in = "users"')
    expect(page.get_by_test_id("sign-out")).to_have_count(0)
    page.get_by_test_id("nav-home").click()
    expect(page.get_by_test_id("sign-in-off")).to_be_visible()
    expect(page.get_by_test_id("problems")).to_contain_text("whoever can open this page is operator")
    other = open_page(moving.edge, "vera")
    expect(other.get_by_test_id("nav-assets")).to_be_visible()
    expect(other.get_by_test_id("sign-in-off")).to_have_count(0)
