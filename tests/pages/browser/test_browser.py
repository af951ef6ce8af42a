"""Real clicks in a real browser."""

from __future__ import annotations

import re

import numpy as np
from playwright.sync_api import Browser, Page, expect

from tests.helpers.fake_runs import png
from tests.pages.browser.browser_testing import (
    Served,
    chosen,
    expect_error,
    open_page,
    shoot,
    try_own,
)
from turnover.runs.run import Run


def test_curves(page: Page, served: Served) -> None:
    open_page(page, served, run="texts")
    page.get_by_role("link", name="Runs").click()
    expect(page.locator(".js-plotly-plot .scatterlayer .trace")).to_have_count(4, timeout=30_000)
    expect(page.get_by_label(re.compile("Losses per epoch over 3 epochs"))).to_have_count(1)
    expect(page).to_have_url(re.compile("runs.*run=texts"), timeout=20_000)
    shoot(page, "curves")


def test_a_text_and_files_of_ones_own_become_items_of_errors(
    page: Page, browser: Browser, served: Served
) -> None:
    open_page(page, served, "try", run="texts")
    expect_error(page, "1 / 8")
    first = chosen(page)
    try_own(page, text="A slow submarine <b>story</b> with clever music")
    expect(page.locator("[data-turnover=teacher]")).to_have_count(5, timeout=180_000)
    expect_error(page, "1 / 9")
    error = page.locator("[data-turnover=error]")
    expect(error.locator(".text")).to_have_text("A slow submarine <b>story</b> with clever music")
    expect(page.locator("[data-turnover=cause]").first).to_have_text("Yours (1)")
    shoot(page, "try-text")
    elsewhere = browser.new_context().new_page()
    elsewhere.goto(page.url)
    expect_error(elsewhere, "1 / 9")
    expect(elsewhere.locator("[data-turnover=teacher]")).to_have_count(5)
    elsewhere.context.close()
    page.keyboard.press("j")
    expect_error(page, "2 / 9")
    try_own(page, file=("bad.txt", b"b\xe4d"))
    expect(page.get_by_text("bad.txt, line 1: not UTF-8 text")).to_be_visible()
    expect(page.locator("[data-turnover=teacher]")).to_have_count(0)
    page.go_back()
    expect_error(page, "3 / 10")
    assert chosen(page) == first, "back from what was asked to the error before"
    try_own(page, file=("mine.csv", b'text,n\nA slow submarine,1\n"",2\nClever <i>music</i>,3\n'))
    expect_error(page, "2 / 12")
    page.keyboard.press("j")
    expect(page.get_by_text("row 2, column text: the text is empty")).to_be_visible()
    page.keyboard.press("j")
    expect(error.locator(".text")).to_have_text("Clever <i>music</i>")
    expect(page.locator("[data-turnover=teacher]")).to_have_count(5, timeout=60_000)
    expect(page.locator(".row-facts").nth(3)).to_contain_text("%")
    shoot(page, "try-many")


def test_an_uploaded_image_is_explained(page: Page, served: Served) -> None:
    open_page(page, served, run="images")
    drawn = np.zeros((64, 64), np.uint8)
    drawn[8:56, 28:36] = 255
    try_own(page, file=("one.png", png(drawn)))
    expect(page.locator("[data-turnover=error]")).to_have_attribute("data-id", "own-1")
    expect(page.locator("[data-turnover=teacher]")).not_to_have_count(0, timeout=180_000)
    assert page.locator("[data-turnover=error] .picture").count() == 1
    shoot(page, "try-image")
    try_own(page, file=("blank.png", png(np.full((9, 9), 255, np.uint8))))
    expect(page.locator("[data-turnover=warning]")).to_contain_text("this image is blank")
    expect(page.locator("[data-turnover=teacher]")).not_to_have_count(0)


def test_hostile_texts_do_nothing(page: Page, served: Served) -> None:
    open_page(page, served, run="hostile")
    for step in range(8):
        expect_error(page, f"{step + 1} / 8")
        assert "owned" not in page.title()
        inside = "b, img, a, script, style"
        assert page.locator(f".text :is({inside}), .row-text :is({inside})").count() == 0
        if step == 0:
            shoot(page, "errors-hostile")
        page.keyboard.press("j")


def test_a_damaged_run_says_what_to_do(page: Page, served: Served) -> None:
    curves = Run(served.runs / "waiting").folder / "curves.parquet"
    whole = curves.read_bytes()
    curves.write_bytes(whole[:-10])
    (served.runs / "waiting" / "manifest.json").touch()
    try:
        open_page(page, served, "runs", run="waiting")
        expect(page.get_by_text("curves.parquet: truncated or edited")).to_be_visible()
        shoot(page, "curves-damaged")
    finally:
        curves.write_bytes(whole)
