"""What somebody who tries Fieldline for the first time waits for."""
import time
from pathlib import Path

from playwright.sync_api import expect

import installation
from conftest import OpenPage


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
        print(f"addresses after {running.addresses_after_s:.1f} s, the first asset after {shown_after_s:.1f} s")
        # Pictures that are still asked for are no complaint once their site has stopped.
        page.close()
        assert running.addresses_after_s < 3
        assert shown_after_s < 10
    finally:
        running.stop()
