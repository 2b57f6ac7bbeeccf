"""Who may come in, how, and what each may press."""
import pytest
from playwright.sync_api import expect

from conftest import PASSWORD, OpenPage
from installation import Installation
from test_accessibility import violations
from test_keyboard import press
from watched import Watch


def test_a_name_and_its_password_open_the_page_and_signing_out_closes_it(main: Installation, open_page: OpenPage) -> None:
    page = open_page(main.edge, None)
    page.get_by_test_id("sign-in-user").fill("fred")
    page.get_by_test_id("sign-in-password").fill(PASSWORD)
    page.get_by_test_id("sign-in").click()
    expect(page.get_by_test_id("nav-assets")).to_be_visible()
    page.reload()
    expect(page.get_by_test_id("nav-assets")).to_be_visible()
    page.get_by_test_id("sign-out").click()
    expect(page.get_by_test_id("sign-in")).to_be_visible()
    assert page.request.get("/api/assets").status == 401


def test_a_wrong_password_is_told_in_words(main: Installation, open_page: OpenPage, watch: Watch) -> None:
    watch.expect("401")
    page = open_page(main.core, None)
    page.get_by_test_id("sign-in-user").fill("vera")
    page.get_by_test_id("sign-in-password").fill("not the password")
    page.get_by_test_id("sign-in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_test_id("sign-in")).to_be_enabled()


def test_people_change_their_own_password_and_are_signed_out_elsewhere(main: Installation, open_page: OpenPage, watch: Watch) -> None:
    main.edge.post("/api/users", {"name": "petra", "role": "viewer", "password": PASSWORD})
    page, elsewhere = open_page(main.edge, "petra"), open_page(main.edge, "petra")
    expect(elsewhere.get_by_test_id("nav-assets")).to_be_visible()
    press(page, "account")
    dialog = page.get_by_role("dialog")
    old, new, again = (dialog.get_by_label(label, exact=True) for label in ("Your password now", "The new one (10 characters or more)", "The new one again"))
    old.fill("not the password")
    new.fill("the next password")
    again.fill("the next passwort")
    again.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("not the same both times")
    assert not violations(page)
    again.fill("the next password")
    watch.expect("403")
    again.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("old password is wrong")
    old.fill(PASSWORD)
    again.press("Enter")
    expect(dialog).to_have_count(0)
    expect(page.get_by_test_id("toast")).to_contain_text("Your password is changed")
    page.reload()
    expect(page.get_by_test_id("account")).to_have_text("petra")
    watch.expect("401")
    elsewhere.reload()
    expect(elsewhere.get_by_test_id("sign-in")).to_be_visible()
    page.get_by_test_id("sign-out").click()
    page.get_by_test_id("sign-in-user").fill("petra")
    page.get_by_test_id("sign-in-password").fill("the next password")
    page.get_by_test_id("sign-in").click()
    expect(page.get_by_test_id("nav-assets")).to_be_visible()


def test_an_operator_changes_the_role_of_others_and_not_their_own(main: Installation, open_page: OpenPage) -> None:
    main.edge.post("/api/users", {"name": "rolf", "role": "viewer", "password": PASSWORD})
    page = open_page(main.edge, "olga", "#/users")
    row = page.get_by_test_id("user-rolf")
    expect(row).to_contain_text("viewer")
    expect(page.get_by_test_id("role-olga")).to_be_disabled()
    press(page, "role-rolf")
    choice = page.get_by_role("dialog").get_by_label("Role")
    expect(choice).to_have_value("viewer")
    assert not violations(page)
    choice.press("f")
    expect(choice).to_have_value("field")
    press(page, "confirm")
    expect(row).to_contain_text("field")
    expect(page.get_by_test_id("toast")).to_contain_text("rolf is field now")
    rolf = open_page(main.edge, "rolf", "#/link")
    expect(rolf.get_by_test_id("link-pause")).to_be_visible()
    said = main.edge.get("/api/audit?user=olga&action=user.set")["entries"]
    assert [(one["target"], one["detail"], one["outcome"]) for one in said if one["target"] == "rolf"] == [("rolf", "role: field", "done")]


def test_a_one_time_link_signs_in_once_and_leaves_no_trace_in_the_address(
    main: Installation, open_page: OpenPage, watch: Watch
) -> None:
    ticket = main.edge.post("/api/tickets", {"user": "fred"})["ticket"]
    page = open_page(main.edge, None, f"#/sign-in/{ticket}")
    expect(page.get_by_test_id("nav-assets")).to_be_visible()
    assert ticket not in page.url
    watch.expect("401")
    again = open_page(main.edge, None, f"#/sign-in/{ticket}")
    expect(again.get_by_test_id("sign-in")).to_be_visible()


@pytest.mark.parametrize("user", ["vera", "ada"])
def test_who_may_only_read_at_an_edge_is_shown_nothing_to_press(main: Installation, open_page: OpenPage, user: str) -> None:
    page = open_page(main.edge, user, "#/assets")
    expect(page.locator("[data-testid^=asset-]").first).to_be_visible()
    expect(page.get_by_test_id("request")).to_have_count(0)
    page.get_by_test_id("nav-link").click()
    expect(page.get_by_test_id("link-state")).to_be_visible()
    expect(page.get_by_test_id("link-pause")).to_have_count(0)
    page.get_by_test_id("nav-services").click()
    expect(page.get_by_test_id("service-listener").first).to_be_visible()
    expect(page.get_by_test_id("service-listener-stop")).to_have_count(0)
    expect(page.get_by_test_id("nav-users")).to_have_count(0)
