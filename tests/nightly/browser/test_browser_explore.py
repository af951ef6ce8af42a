"""Training item and Map in a real browser: one leads to the other, by mouse and by keyboard, and
links show the same elsewhere.
"""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.pages.browser.browser_testing import (
    Served,
    choose,
    chosen,
    click_row,
    first_card,
    open_page,
    settle,
    shoot,
)


def test_a_card_leads_to_its_item_and_the_item_to_its_errors(page: Page, served: Served) -> None:
    open_page(page, served, run="texts")
    wanted = first_card(page).get_attribute("data-id") or ""
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
    link.click()
    expect(page.get_by_role("heading", name="Errors", exact=True)).to_be_visible()
    settle(page)
    assert f"item={chosen(page)}" in page.url


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
    for path in ("training", "map"):
        open_page(page, served, path, run="hostile", containing="word")
        assert "owned" not in page.title()
        assert (
            page.locator(
                ".to-text b, .to-text img, .to-text a, .to-text script, .js-plotly-plot a"
            ).count()
            == 0
        )
