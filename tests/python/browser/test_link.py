"""The link's page: its routes, what it may use, how long the site can wait, and how it was."""
from playwright.sync_api import Page, expect

from api import eventually
from conftest import OpenPage
from installation import Installation
from test_keyboard import focus, press


def answer(page: Page, text: str) -> None:
    """Fills in the dialog that is open."""
    page.locator("dialog input").fill(text)
    page.get_by_test_id("confirm").click()


def limits(main: Installation) -> dict:
    return main.edge.get("/api/link")["limits"]


def test_a_route_is_paused_and_resumed_and_the_others_go_on(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "fred", "#/link")
    state = page.get_by_test_id("route-broadcasts-state")
    expect(page.get_by_test_id("routes").locator("li")).to_have_count(4, timeout=60_000)
    page.get_by_test_id("route-broadcasts-pause").click()
    try:
        expect(state).to_have_text("Paused")
        eventually(60, "headquarters' route rests", lambda: [one["name"] for one in limits(main)["routes"] if one["paused"]] == ["broadcasts"])
        expect(page.get_by_test_id("route-requests-state")).not_to_have_text("Paused")
    finally:
        page.get_by_test_id("route-broadcasts-resume").click()
    expect(state).not_to_have_text("Paused")


def test_limits_are_set_in_words_and_taken_back(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "fred", "#/link")
    for key, text, shown in (("cap", "2MB", "at most 1.9 MiB/s"), ("per_day", "500MB", "at most 477 MiB"), ("per_month", "5GB", "at most 4.7 GiB")):
        value = page.get_by_test_id(f"limit-{key}-value")
        page.get_by_test_id(f"limit-{key}-change").click()
        answer(page, text)
        expect(value).to_have_text(shown)
        expect(page.get_by_test_id(f"limit-{key}")).to_contain_text("set by fred")
    expect(page.get_by_test_id("spent")).to_contain_text("of 477 MiB")
    page.get_by_test_id("limit-windows-change").click()
    answer(page, "mon-sun 00:00-24:00; sat 10:00-11:00")
    expect(page.get_by_test_id("limit-windows-value")).to_have_text("mon-sun 00:00-24:00; sat 10:00-11:00")
    page.get_by_test_id("limit-metered-change").click()
    expect(page.get_by_test_id("limit-metered-value")).to_contain_text("yes")
    expect(page.get_by_test_id("class-assets")).to_contain_text("Held")
    expect(page.get_by_test_id("held")).to_contain_text("nobody has confirmed")
    page.get_by_test_id("allow").click()
    answer(page, "20MB")
    expect(page.get_by_test_id("limit-metered-value")).to_contain_text("19.1 MiB of bulk")
    for key in ("cap", "per_day", "per_month", "windows", "metered"):
        page.get_by_test_id(f"as-configured-{key}").click()
        expect(page.get_by_test_id(f"as-configured-{key}")).to_have_count(0)
    main.edge.post("/api/link", {"allow": "0B"})
    expect(page.get_by_test_id("limit-cap-value")).to_have_text("no limit")
    expect(page.get_by_test_id("limit-metered-value")).to_have_text("no")


def test_what_cannot_be_set_is_said_and_changes_nothing(main: Installation, open_page: OpenPage, watch) -> None:
    watch.expect("400")
    page = open_page(main.edge, "fred", "#/link")
    before = limits(main)["cap"]
    page.get_by_test_id("limit-cap-change").click()
    answer(page, "fast")
    expect(page.get_by_test_id("toast")).to_contain_text("cap")
    assert limits(main)["cap"] == before


def test_how_it_was_is_drawn_told_and_pushed(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "vera", "#/link")
    expect(page.get_by_test_id("limit-cap-change")).to_have_count(0)
    expect(page.get_by_test_id("buffer")).to_contain_text("This site holds what waits", timeout=60_000)
    page.get_by_test_id("span-hour").click()
    expect(page.get_by_test_id("span-hour")).to_have_attribute("aria-pressed", "true")
    words = page.get_by_test_id("chart-lag-words")
    expect(words).not_to_contain_text("Nothing is known", timeout=90_000)
    chart = page.get_by_test_id("chart-lag")
    chart.locator("summary").click()
    first = chart.locator("tbody tr").count()
    assert first >= 1
    # The next minute's point is told of, and only then is anything asked for.
    with page.expect_request(lambda request: "/api/link/history" in request.url, timeout=90_000) as asked:
        pass
    at = main.edge.get("/api/link/history?span=hour")["at"]
    assert asked.value.url.endswith("span=hour") and len(at) == 60
    page.get_by_test_id("chart-route").select_option("requests")
    expect(words).not_to_contain_text("Nothing is known")


def test_a_route_is_paused_and_a_limit_set_with_keys_alone(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "fred", "#/link")
    expect(page.get_by_test_id("route-status-pause")).to_be_visible(timeout=60_000)
    press(page, "route-status-pause")
    expect(page.get_by_test_id("route-status-state")).to_have_text("Paused")
    press(page, "route-status-resume")
    expect(page.get_by_test_id("route-status-state")).not_to_have_text("Paused")
    press(page, "limit-cap-change")
    expect(page.locator("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    focus(page, "span-month")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("span-month")).to_have_attribute("aria-pressed", "true")


def test_no_answer_from_headquarters_is_said_with_as_of_when(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, "fred", "#/link")
    expect(page.get_by_test_id("link-state")).to_have_attribute("data-state", "up", timeout=60_000)
    page.get_by_test_id("link-pause").click()
    try:
        expect(page.locator("section", has=page.get_by_test_id("routes"))).to_contain_text("what waits at headquarters is as of")
    finally:
        page.get_by_test_id("link-resume").click()
    expect(page.get_by_test_id("link-state")).to_have_attribute("data-state", "up", timeout=60_000)
