"""A site that is not connected: its page says so first, tries what it is given, and connects without a restart."""
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import installation
from api import eventually
from conftest import OpenPage, make_users
from installation import Installation
from states import begin_test, enter
from test_accessibility import PHONE, violations
from test_keyboard import focus, press
from watched import Watch

# How long the site waits for a word of whoever takes its connection.
SILENCE_S = 5
STEPS = {"broker": ("file", "name", "port", "certificate", "rights", "topics"), "depot": ("file", "name", "port", "certificate", "rights")}


@pytest.fixture
def apart(directory: Path, request: pytest.FixtureRequest) -> Iterator[Installation]:
    """A demo whose edge has not been given its enrolment."""
    running = installation.demo(directory / request.node.name[:40], more=("--not-connected", "edge-1"))
    try:
        make_users(running.edge)
        yield running
    finally:
        running.stop()


def enrolment(apart: Installation) -> Path:
    return apart.directory / "data/edge-1.enrolment"


def step(page: Page, name: str, target: str):
    return page.get_by_test_id(f"set-up-step-{name}-{target}")


def connected(page: Page) -> None:
    expect(page.get_by_test_id("set-up-state")).to_have_attribute("data-state", "connected")
    expect(page.get_by_test_id("set-up-link")).to_have_attribute("data-state", "up", timeout=60_000)
    press(page, "nav-assets")
    expect(page.locator("[data-testid^=asset-]").first).to_be_visible(timeout=60_000)


def test_a_site_is_connected_with_its_file_and_each_step_says_how_it_went(apart: Installation, open_page: OpenPage, watch: Watch) -> None:
    page = open_page(apart.edge, "olga")
    # Nobody has to look for it.
    expect(page.get_by_test_id("set-up-needed")).to_contain_text("is not connected to headquarters yet")
    expect(page.get_by_test_id("set-up-connect")).to_be_disabled()

    enter(page, enrolment(apart), "https://127.0.0.1:1")
    expect(page.get_by_test_id("set-up-site")).to_contain_text("edge-1")
    page.get_by_test_id("set-up-test").click()
    expect(step(page, "port", "depot")).to_have_attribute("data-state", "failed", timeout=40_000)
    expect(step(page, "port", "depot")).to_contain_text("nobody answers at 127.0.0.1:1")
    expect(step(page, "port", "depot")).to_contain_text("What to do")
    expect(step(page, "certificate", "depot")).to_have_attribute("data-state", "skipped")
    expect(step(page, "topics", "broker")).to_have_attribute("data-state", "passed")
    expect(page.get_by_test_id("set-up-connect")).to_be_disabled()
    assert not violations(page)

    # Another file fills the addresses in again, and forgets what was tried with the last.
    page.get_by_test_id("set-up-file").set_input_files([])
    page.get_by_test_id("set-up-file").set_input_files(enrolment(apart))
    expect(page.get_by_test_id("set-up-depot")).not_to_have_value("https://127.0.0.1:1")
    page.get_by_test_id("set-up-test").click()
    expect(page.get_by_test_id("set-up-said")).to_contain_text("Every step passed", timeout=40_000)
    for target, names in STEPS.items():
        for name in names:
            assert step(page, name, target).get_attribute("data-state") in ("passed", "skipped")
    page.get_by_test_id("set-up-connect").click()
    connected(page)
    assert apart.edge.get("/api/audit?action=set_up.connect")["entries"][0]["user"] == "olga"


def test_a_step_is_shown_while_it_is_tried_and_a_test_can_be_stopped(apart: Installation, open_page: OpenPage, watch: Watch) -> None:
    page = open_page(apart.edge, "olga")
    # Until the site has noticed that who tested before has left.
    watch.expect("409")
    # It takes connections and says nothing.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        enter(page, enrolment(apart), f"https://127.0.0.1:{silent.getsockname()[1]}")

        def is_stopped() -> bool:
            began = time.monotonic()
            begin_test(page)
            expect(step(page, "certificate", "depot")).to_have_attribute("data-state", "running")
            # From where Tab is there at once.
            page.get_by_test_id("set-up-depot").focus()
            press(page, "set-up-stop")
            expect(step(page, "port", "depot")).to_have_count(0)
            expect(page.get_by_test_id("set-up-said")).to_have_text("A test changes nothing.")
            # The site has stopped too: what is tried next does not wait for the end of that.
            begin_test(page)
            return time.monotonic() - began < SILENCE_S

        eventually(90, "a test is stopped, and the next begins", is_stopped)
        expect(step(page, "certificate", "depot")).to_have_attribute("data-state", "running")
        expect(step(page, "port", "depot")).to_have_attribute("data-state", "passed")
        expect(step(page, "rights", "depot")).to_have_attribute("data-state", "waiting")
        assert not violations(page)
        expect(step(page, "certificate", "depot")).to_have_attribute("data-state", "failed", timeout=40_000)
        expect(step(page, "certificate", "depot")).to_contain_text("does not answer with TLS")


def test_a_site_is_connected_with_keys_alone_from_pasted_text(apart: Installation, open_page: OpenPage, watch: Watch) -> None:
    page = open_page(apart.edge, "olga", reduced_motion="reduce", color_scheme="dark")
    expect(page.get_by_test_id("set-up-needed")).to_be_visible()
    assert not violations(page)
    focus(page, "set-up-text")
    page.keyboard.insert_text(json.dumps({"format": "something else"}))
    press(page, "set-up-test")
    expect(step(page, "file", "broker")).to_have_attribute("data-state", "failed")
    expect(step(page, "file", "broker")).to_contain_text("fieldline-enrolment-1")
    page.get_by_test_id("set-up-text").focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(enrolment(apart).read_text(encoding="utf-8"))
    press(page, "set-up-test")
    expect(page.get_by_test_id("set-up-said")).to_contain_text("Every step passed", timeout=40_000)
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert not violations(page)
    press(page, "set-up-connect")
    connected(page)


def test_who_may_not_set_up_is_told_who_may(apart: Installation, open_page: OpenPage) -> None:
    page = open_page(apart.edge, "fred", "#/home")
    told = page.get_by_test_id("problems").filter(has_text="not connected to headquarters")
    expect(told).to_have_count(1)
    expect(page.get_by_test_id("as-of")).to_have_count(0)
    page.get_by_test_id("nav-assets").click()
    expect(page.get_by_test_id("as-of")).to_contain_text("not connected to headquarters yet")
    page.get_by_test_id("nav-home").click()
    told.get_by_role("link", name="Set-up").click()
    expect(page.get_by_test_id("set-up-needed")).to_be_visible()
    expect(page.get_by_text("needs the role operator")).to_be_visible()
    assert page.get_by_test_id("set-up-file").count() == 0
