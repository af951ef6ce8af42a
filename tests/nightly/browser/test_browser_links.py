"""Links from page to page in a real browser: the address names the run once."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from tests.pages.browser.browser_testing import Served, choose, chosen, open_page, settle


def named(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def test_three_links_later_the_address_names_the_run_once(page: Page, served: Served) -> None:
    open_page(page, served, run="texts")
    page.locator(".row").nth(1).click()
    settle(page)
    error = chosen(page)
    assert named(page) == {"run": ["texts"], "item": [error]}
    page.get_by_role("link", name="Open", exact=True).first.click()
    expect(page.get_by_role("heading", name="Training data", exact=True)).to_be_visible()
    settle(page)
    assert named(page)["run"] == ["texts"] and named(page)["item"] != [error]
    page.get_by_role("link", name="Errors", exact=True).click()
    expect(page.get_by_role("heading", name="Errors", exact=True)).to_be_visible()
    settle(page)
    assert named(page) == {"run": ["texts"], "item": [error]}


def test_of_an_address_that_names_the_run_twice_another_run_can_be_chosen(
    page: Page, served: Served
) -> None:
    page.goto(f"{served.url}/errors?run=texts&run=texts")
    expect(page.get_by_role("heading", name="Errors", exact=True)).to_be_visible()
    settle(page)
    choose(page, "Run", "waiting")
    expect(page.get_by_text("This run has no influence yet")).to_be_visible()
    settle(page)
    assert named(page)["run"] == ["waiting"]
