"""Killed processes: the service that is gone is shown silent within 10 s, and a page that lost its site says so."""
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

import installation
from api import Site
from conftest import OpenPage, make_users
from installation import Installation
from watched import Watch

# How long a silence may last before it is on the pages.
SILENT_S = 10


def is_silent(core: Site, machine: str) -> bool:
    return any(one["instance"] == machine and one["state"] == "silent" for one in core.service("feed"))


@pytest.mark.real
def test_a_killed_service_is_shown_silent_within_10_s(main: Installation, open_page: OpenPage) -> None:
    if "edge-1.requester" not in main.processes:
        pytest.skip("a small edge is one process")
    page = open_page(main.edge, "olga", "#/services")
    state = page.get_by_test_id("service-requester-state")
    expect(state).to_have_attribute("data-state", "running", timeout=60_000)
    process = main.processes["edge-1.requester"]
    process.kill()
    killed = time.monotonic()
    try:
        expect(state).to_have_attribute("data-state", "silent", timeout=SILENT_S * 1000)
        print(f"silent after {time.monotonic() - killed:.1f} s")
        # Nobody hears what would be told it here.
        expect(page.get_by_test_id("service-requester-ended")).to_contain_text("Start it on its machine")
        for button in ("stop", "start", "debug"):
            expect(page.get_by_test_id(f"service-requester-{button}")).to_have_count(0)
        page.get_by_test_id("nav-home").click()
        expect(page.get_by_test_id("problems")).to_contain_text("requester says nothing any more")
        expect(page.get_by_test_id("problems")).to_contain_text("tart requester on its machine")
    finally:
        main.processes["edge-1.requester"] = process.again()
    page.get_by_test_id("nav-services").click()
    expect(state.first).to_have_attribute("data-state", "running", timeout=60_000)


def test_the_services_of_a_killed_machine_fall_silent_beside_those_of_its_successor(
    directory: Path, open_page: OpenPage, watch: Watch
) -> None:
    """Embedded engines belong to one process, so it is the whole machine that dies here, and another takes its place."""
    watch.expect("ERR_|Failed to load resource")
    first = installation.demo(directory / "machines", core_settings='[common]\ninstance = "first-machine"\n')
    port = first.port
    make_users(first.core)
    page = open_page(first.core, "olga", "#/services")
    expect(page.get_by_test_id("service-feed-state")).to_have_attribute("data-state", "running")
    first.processes["demo"].kill()
    killed = time.monotonic()
    try:
        # The page that was open says as of when it knows what it shows.
        expect(page.get_by_test_id("as-of").first).to_be_visible()
        second = installation.demo(
            directory / "machines", core_settings='[common]\ninstance = "second-machine"\n', port=port
        )
    finally:
        first.stop()
    try:
        card = page.get_by_test_id("service-feed")
        expect(card.filter(has_text="second-machine").get_by_test_id("service-feed-state")).to_have_attribute(
            "data-state", "running", timeout=60_000
        )
        expect(page.get_by_test_id("as-of")).to_have_count(0)
        # Who asks the site after so long is told, however busy the machine is; the page is told by its site.
        while (asked := time.monotonic()) and not is_silent(second.core, "first-machine"):
            assert asked - killed < SILENT_S
            time.sleep(0.1)
        dead = card.filter(has_text="first-machine")
        expect(dead.get_by_test_id("service-feed-state")).to_have_attribute("data-state", "silent")
        # What is told a service that works in its place is told beside that one.
        expect(dead.get_by_test_id("service-feed-ended")).to_contain_text("Another instance of feed works in its place")
        expect(page.get_by_test_id("service-feed-stop")).to_have_count(1)
        expect(dead.get_by_role("button")).to_have_count(1)
        expect(dead.get_by_role("button")).to_have_text("Log")
    finally:
        second.stop()
