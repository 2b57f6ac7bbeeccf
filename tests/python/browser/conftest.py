"""What the browser tests share: the installation they look at, people who sign in, and pages that forgive nothing."""
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

import installation
from api import Site
from installation import Installation, Process
from watched import Watch

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
# "real" is Kafka and Cassandra at both sites, "small" at headquarters alone.
ENGINES = os.environ.get("FIELDLINE_ENGINES", "embedded")
REAL = ENGINES in ("real", "small")
RESULTS = Path(os.environ.get("FIELDLINE_RESULTS", Path(__file__).parents[3] / "target/browser"))
PASSWORD = "correct horse battery"
ROLES = {"vera": "viewer", "fred": "field", "ada": "analyst", "olga": "operator"}

# What a machine that has a bad moment may take for it.
expect.set_options(timeout=20_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("real") and not REAL:
            item.add_marker(pytest.mark.skip(reason="needs `make test-browser ENGINES=real`"))
        # Where several run at once: a file's tests share installations, but for those that make one each.
        group = item.nodeid if item.get_closest_marker("apart") else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    if call.when == "setup":
        item.stash[BEGAN] = call.start
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    if report.failed:
        # Of a run elsewhere nothing is kept but what it prints.
        report.sections.extend((f"last lines of {name}", said) for name, said in last_lines(item.stash[BEGAN]))
    return report


FAILED = pytest.StashKey[bool]()
BEGAN = pytest.StashKey[float]()
LAST_LINES = 40
COMPLAINTS = 10


def last_lines(since: float) -> Iterator[tuple[str, str]]:
    """What the processes said last that have said anything since then."""
    for log, process in {process.log: process for process in Process.started}.items():
        if log.exists() and log.stat().st_mtime >= since:
            yield f"{log.parent.name}/{log.name}", process.tail(LAST_LINES)


@pytest.fixture(scope="session")
def directory(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Where the installations keep all they store; their logs stay when a test failed."""
    made = Path(tempfile.mkdtemp(prefix="fieldline-browser-"))
    yield made
    if request.session.testsfailed:
        for log in made.rglob("*.log"):
            kept = RESULTS / "logs" / log.relative_to(made)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(log, kept)
    shutil.rmtree(made, ignore_errors=True)


def make_users(site: Site) -> None:
    for name, role in ROLES.items():
        site.post("/api/users", {"name": name, "role": role, "password": PASSWORD})


@pytest.fixture(scope="session")
def main(directory: Path) -> Iterator[Installation]:
    """The installation that most tests share, on the engines that were asked for; assets go on arriving."""
    if REAL:
        running = installation.real(directory / "main", "sample:", small=ENGINES == "small")
    else:
        running = installation.demo(directory / "main", core_settings='[feed]\ninterval = "2s"\nrepeat = true\n')
    try:
        for site in running.sites.values():
            make_users(site)
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM,
            # Debian's build has no /dev/shm to itself in a container, and a headless page must not be throttled.
            args=["--disable-dev-shm-usage", "--disable-background-timer-throttling", "--disable-renderer-backgrounding"],
        )
        yield started
        started.close()


OpenPage = Callable[..., Page]


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def open_page(request: pytest.FixtureRequest, browser: Browser, watch: Watch) -> Iterator[OpenPage]:
    """Opens a site's page as a person who has signed in, or as nobody."""
    contexts = []

    def open_page(site: Site, user: str | None = "olga", route: str = "#/", **options) -> Page:
        options.setdefault("viewport", {"width": 1280, "height": 800})
        context = browser.new_context(base_url=site.url, **options)
        contexts.append(context)
        watch.over(context)
        if user is not None:
            answer = context.request.post(
                "/api/session", data={"user": user, "password": PASSWORD}, headers={"x-fieldline": "1"}
            )
            assert answer.ok, answer.text()
        page = context.new_page()
        page.goto("/" + route)
        return page

    yield open_page
    if request.node.stash.get(FAILED, False):
        RESULTS.mkdir(parents=True, exist_ok=True)
        for number, page in enumerate(page for context in contexts for page in context.pages):
            name = re.sub(r"[^\w-]+", "-", request.node.name)
            # A page that hangs has none.
            with suppress(Error):
                page.screenshot(path=RESULTS / f"{name}-{number}.png")
    for context in contexts:
        context.close()
    if complaints := watch.unexpected():
        # What failed before must not be buried beneath what it led to.
        more = [f"and {len(complaints) - COMPLAINTS} more"] if len(complaints) > COMPLAINTS else []
        pytest.fail("\n".join(complaints[:COMPLAINTS] + more), pytrace=False)


@pytest.fixture
def field_page(main: Installation, open_page: OpenPage) -> Page:
    return open_page(main.edge, "fred")


