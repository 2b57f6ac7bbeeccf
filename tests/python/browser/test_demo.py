"""What somebody who tries Fieldline for the first time waits for."""
import os
import time
from pathlib import Path

from playwright.sync_api import expect

import installation
from conftest import OpenPage


ADDRESSES_S, ASSET_S = 3, 10


def times_slower() -> float:
    """A machine that has more to do than it has processors for is allowed as much longer."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def test_the_demo_prints_its_addresses_within_3_s_and_shows_an_asset_within_10_s(
    directory: Path, open_page: OpenPage
) -> None:
    running = installation.demo(directory / "newcomer")
    try:
        began = running.processes["demo"].began
        link = running.links["edge-1"].removeprefix(running.edge.url + "/")
        page = open_page(running.edge, None, link)
        page.get_by_test_id("nav-assets").click()
        expect(page.locator("[data-testid^=asset-]").first).to_be_visible()
        shown_after_s = time.monotonic() - began
        slower = times_slower()
        print(f"addresses after {running.addresses_after_s:.1f} s, the first asset after {shown_after_s:.1f} s; {slower:.1f} times as long is allowed")
        # Pictures that are still asked for are no complaint once their site has stopped.
        page.close()
        assert running.addresses_after_s < ADDRESSES_S * slower
        assert shown_after_s < ASSET_S * slower
    finally:
        running.stop()
