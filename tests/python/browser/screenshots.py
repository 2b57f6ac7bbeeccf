#!/usr/bin/env python3
"""Takes a picture of every page and state, says where they are, and what axe-core finds in them.

usage: screenshots.py [NAME...]   (by `cargo xtask screenshots [NAME...]`, which builds the programs)

NAME is empty, busy, underway, trouble, failed, apart, down, letters, edges or many: only those are taken, and the other
pictures stay.
"""
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parent))
import states  # noqa: E402
from accessible import too_wide, violations  # noqa: E402
from conftest import CHROMIUM  # noqa: E402

OUT = Path(__file__).parents[3] / "target/screenshots"
# What a view may take to read and draw what it shows.
SETTLED_MS = 700


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    every = {take.__name__: take for take in states.ALL}
    if unknown := set(sys.argv[1:]) - set(every):
        sys.exit(f"{', '.join(unknown)}: there are {', '.join(every)}")
    if not sys.argv[1:]:
        for old in OUT.glob("*.png"):
            old.unlink()
    found: list[str] = []

    def look(page: Page, name: str) -> None:
        page.wait_for_timeout(SETTLED_MS)
        page.screenshot(path=OUT / f"{name}.png")
        found.extend(f"{name}: {one}" for one in violations(page) + too_wide(page))

    with tempfile.TemporaryDirectory(prefix="fieldline-screenshots-") as made, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-dev-shm-usage"])
        for name in sys.argv[1:] or every:
            every[name](states.Stage(browser, look), Path(made))
        browser.close()
    print(f"{len(list(OUT.glob('*.png')))} pictures")
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
