"""Overview, Training item and Map in a real browser: one leads to the other, by mouse and by
keyboard, and links show the same elsewhere.
"""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Page, expect

from tests.pages.browser.browser_testing import (
    Served,
    choose,
    chosen,
    click_row,
    open_page,
    settle,
    shoot,
)


def click_cell(page: Page, row: int, column: int) -> None:
    """Click on a cell of the confusion matrix, which is a canvas; columns count from the first
    predicted class.
    """
    table = page.get_by_test_id("stDataFrame")
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    assert box
    page.mouse.click(box["x"] + 150 + 64 * column + 32, box["y"] + 35 * (row + 1) + 17)


def test_a_cell_leads_to_the_errors_behind_it(page: Page, browser: Browser, served: Served) -> None:
    open_page(page, served, "", run="texts")
    expect(page.get_by_role("heading", name="Overview", exact=True)).to_be_visible()
    expect(page.get_by_text("8 errors.", exact=True)).to_be_visible()
    click_cell(page, 1, 0)
    expect(page.get_by_text("4 errors of class “positive” taken for “negative”.")).to_be_visible()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_text(re.compile("Right answers: .* of class “negative”"))).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("4 errors of class “negative” taken for “positive”.")).to_be_visible()
    settle(page)
    assert "confused=negative" in page.url and "taken-for=positive" in page.url
    page.get_by_role("link", name="Show these errors").press("Enter")
    expect(page.get_by_role("heading", name="Errors", exact=True)).to_be_visible()
    expect(page.get_by_text("Error 1 of 4 that match, out of 8")).to_be_visible()
    settle(page)
    elsewhere = browser.new_context().new_page()
    elsewhere.goto(page.evaluate("location.href"))
    expect(elsewhere.get_by_text("Error 1 of 4 that match, out of 8")).to_be_visible()
    elsewhere.context.close()


def test_an_error_to_begin_with_opens_whatever_was_filtered(page: Page, served: Served) -> None:
    open_page(page, served, "errors", run="images")
    page.get_by_role("searchbox", name="Search").fill("no such word")
    expect(page.get_by_text("No error matches")).to_be_visible()
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_text("Three errors to begin with")).to_be_visible()
    settle(page)
    wanted = page.locator(".to-facts .to-id").nth(2).inner_text()
    page.get_by_role("link", name=re.compile("^Open error")).nth(2).click()
    expect(page.get_by_text(re.compile("Error [0-9] of 8$"))).to_be_visible()
    settle(page)
    assert chosen(page) == wanted and f"item={wanted}" in page.evaluate("location.href")


def test_a_card_leads_to_its_item_and_the_item_to_its_errors(page: Page, served: Served) -> None:
    open_page(page, served, "errors", run="texts")
    wanted = (
        page.locator(".to-foot .to-id").filter(has_text=re.compile(r"^t\d+$")).first.inner_text()
    )
    page.get_by_role("link", name="Open", exact=True).first.click()
    expect(page.get_by_role("heading", name="Training item", exact=True)).to_be_visible()
    expect(page.locator(".to-target .to-id")).to_have_text(wanted)
    expect(page.get_by_label(re.compile("loss over 3 epochs"))).to_have_count(1)
    settle(page)
    assert f"train={wanted}" in page.evaluate("location.href")
    page.get_by_test_id("stMain").get_by_text("prediction", exact=True).click()
    expect(page.get_by_role("heading", name="Pushed towards what was predicted")).to_be_visible()
    settle(page)
    page.get_by_role("button", name="Open neighbour 1").press("Enter")
    expect(page.locator(".to-target .to-id")).not_to_have_text(wanted)
    settle(page)
    page.go_back()
    expect(page.locator(".to-target .to-id")).to_have_text(wanted)
    settle(page)
    link = page.get_by_role("link", name=re.compile("^Open error")).first
    number = link.inner_text().split()[-1]
    link.click()
    expect(page.get_by_text(f"Error {number} of 8")).to_be_visible()


def draw_around_all(page: Page) -> None:
    """A lasso around nearly the whole map."""
    plot = page.locator(".js-plotly-plot .nsewdrag").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box
    corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98), (0.02, 0.05)]
    page.mouse.move(
        box["x"] + corners[0][0] * box["width"], box["y"] + corners[0][1] * box["height"]
    )
    page.mouse.down()
    for x, y in corners[1:]:
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=8)
    page.mouse.up()


def test_a_group_is_drawn_around_and_narrowed_by_words(page: Page, served: Served) -> None:
    open_page(page, served, "map", run="texts")
    expect(page.get_by_text("Draw around points on the map")).to_be_visible()
    draw_around_all(page)
    expect(
        page.get_by_text(
            re.compile("[0-9]+ training items; [0-9]+ validation items were drawn around, too")
        )
    ).to_be_visible()
    expect(
        page.get_by_role("columnheader", name="On the predictions, mean over 8 errors")
    ).to_be_visible()
    shoot(page, "map-drawn")
    page.get_by_label("Choose training texts that contain").fill("submarine")
    page.keyboard.press("Enter")
    expect(page.get_by_role("rowheader", name="“submarine”", exact=True)).to_be_visible()
    settle(page)
    assert "containing=submarine" in page.url
    click_row(page, 1)
    expect(page.get_by_role("link", name="Open the selected training item")).to_be_visible()
    draw_around_all(page)
    expect(
        page.get_by_role("rowheader", name=re.compile("points drawn around, “submarine”"))
    ).to_be_visible()
    choose(page, "Colour by", "Self-influence")
    expect(page.get_by_label(re.compile("coloured by self-influence"))).to_have_count(1)


def test_hostile_texts_do_nothing(page: Page, served: Served) -> None:
    for path in ("", "training", "map"):
        open_page(page, served, path, run="hostile", containing="word")
        assert "owned" not in page.title()
        assert (
            page.locator(
                ".to-text b, .to-text img, .to-text a, .to-text script, .js-plotly-plot a"
            ).count()
            == 0
        )
