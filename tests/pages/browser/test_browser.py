"""Real clicks in a real browser."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, Page, expect

from tests.helpers.fake_runs import png
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
from turnover.runs.run import Run


def test_errors_are_filtered_chosen_and_linked(
    page: Page, browser: Browser, served: Served
) -> None:
    open_page(page, served, run="texts")
    expect(page.get_by_text("8 of 24 validation items are misclassified")).to_be_visible()
    assert page.locator(".to-line").count() == 10
    first = chosen(page)
    choose(page, "True class", "positive")
    expect(page.get_by_text("Error 1 of 4 that match, out of 8")).to_be_visible()
    click_row(page, 2)
    expect(page.get_by_text("Error 3 of 4 that match")).to_be_visible()
    settle(page)
    second = chosen(page)
    assert second != first and f"item={second}" in page.url and "true=positive" in page.url
    page.keyboard.press("ArrowUp")
    expect(page.get_by_text("Error 2 of 4 that match")).to_be_visible()
    page.locator("h1").click()
    for key, number in (("j", 3), ("k", 2)):
        settle(page)
        page.keyboard.press(key)
        expect(page.get_by_text(f"Error {number} of 4 that match")).to_be_visible()
    settle(page)
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("Error 3 of 4 that match")).to_be_visible()
    settle(page)
    elsewhere = browser.new_context().new_page()
    elsewhere.goto(page.url)
    expect(elsewhere.get_by_text("Error 3 of 4 that match")).to_be_visible()
    settle(elsewhere)
    assert chosen(elsewhere) == chosen(page) == second
    elsewhere.context.close()
    page.get_by_role("searchbox", name="Search").fill("no such word")
    expect(page.get_by_text("No error matches")).to_be_visible()
    choose(page, "Run", "images")
    expect(page.get_by_text("Error 1 of 8")).to_be_visible()
    assert "true=" not in page.url and "search=" not in page.url and "item=" not in page.url


def test_prediction_and_truth(page: Page, served: Served) -> None:
    open_page(page, served, run="texts")
    expect(
        page.get_by_text("Influence on the prediction: the loss of the wrong label")
    ).to_be_visible()
    before = first_card(page).inner_text()
    page.get_by_test_id("stMain").get_by_text("truth", exact=True).click()
    expect(page.get_by_text("Influence on the truth: the loss of the true label")).to_be_visible()
    settle(page)
    assert first_card(page).inner_text() != before and "meaning=truth" in page.url


def test_a_flag_survives_a_reload_and_is_exported(page: Page, served: Served) -> None:
    open_page(page, served, run="texts")
    label = first_card(page).locator(".to-chip").inner_text()
    other = {"negative": "positive", "positive": "negative"}[label]
    page.get_by_role("button", name="Flag", exact=True).first.click()
    page.get_by_text("Relabel", exact=True).click()
    expect(page.get_by_label("New label")).to_be_visible()
    page.get_by_label("Note").fill("=2+2, <b>says me</b>")
    shoot(page, "errors-flag")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text(f"flagged: relabel to {other}")).to_be_visible()
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    page.reload()
    expect(page.get_by_text(f"flagged: relabel to {other}")).to_be_visible()
    expect(page.get_by_text("1 training item flagged")).to_be_visible()
    settle(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export flags (CSV)").click()
    assert download.value.suggested_filename == "texts-flags.csv"
    (row,) = csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8")))
    assert (row["action"], row["new_label"], row["note"]) == (
        "relabel",
        other,
        "'=2+2, <b>says me</b>",
    )
    page.get_by_role("button", name="Change flag").click()
    page.get_by_role("button", name="Clear flag").click()
    expect(page.get_by_text("No training item is flagged yet")).to_be_visible()


def test_curves(page: Page, served: Served) -> None:
    open_page(page, served, run="texts")
    page.get_by_role("link", name="Curves").click()
    expect(page.locator(".js-plotly-plot .scatterlayer .trace")).to_have_count(4, timeout=30_000)
    expect(page.get_by_text("How to read this")).to_be_visible()
    expect(page.get_by_label(re.compile("Losses per epoch over 3 epochs"))).to_have_count(1)
    expect(page).to_have_url(re.compile("curves.*run=texts"), timeout=20_000)
    shoot(page, "curves")


def test_a_pasted_text_and_a_file_are_explained(page: Page, served: Served) -> None:
    open_page(page, served, "try", run="texts")
    page.get_by_label("Your text").fill("A slow submarine <b>story</b> with clever music")
    page.get_by_role("button", name="Explain").click()
    expect(
        page.get_by_role("heading", name=re.compile("Predicted: (negative|positive)"))
    ).to_be_visible(timeout=180_000)
    settle(page)
    assert (
        page.locator(".to-target").inner_text() == "A slow submarine <b>story</b> with clever music"
    )
    assert page.locator(".to-line").count() > 0
    shoot(page, "try-text")
    page.locator("input[type=file]").set_input_files(
        {"name": "mine.txt", "mimeType": "text/plain", "buffer": b"words from a file"}
    )
    expect(page.get_by_text("mine.txt")).to_be_visible()
    page.get_by_role("button", name="Explain").click()
    expect(page.locator(".to-target")).to_have_text("words from a file", timeout=60_000)
    page.locator("input[type=file]").set_input_files(
        {"name": "bad.txt", "mimeType": "text/plain", "buffer": b"b\xe4d"}
    )
    expect(page.get_by_text("bad.txt")).to_be_visible()
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_text("bad.txt, line 1: not UTF-8 text")).to_be_visible()


def test_an_uploaded_image_is_explained(page: Page, served: Served) -> None:
    open_page(page, served, "try", run="images")
    drawn = np.zeros((64, 64), np.uint8)
    drawn[8:56, 28:36] = 255
    page.locator("input[type=file]").set_input_files(
        {"name": "one.png", "mimeType": "image/png", "buffer": png(drawn)}
    )
    expect(page.get_by_text("one.png")).to_be_visible()
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_role("heading", name=re.compile("Predicted: [0-9]"))).to_be_visible(
        timeout=180_000
    )
    settle(page)
    assert page.locator(".to-image").count() > 1
    shoot(page, "try-image")


def test_hostile_texts_do_nothing(page: Page, served: Served) -> None:
    open_page(page, served, run="hostile")
    for step in range(8):
        expect(page.get_by_text(f"Error {step + 1} of 8")).to_be_visible()
        settle(page)
        assert "owned" not in page.title()
        assert page.locator(".to-text b, .to-text img, .to-text a, .to-text script").count() == 0
        if step == 0:
            shoot(page, "errors-hostile")
        page.get_by_role("button", name="Next").click()


def test_a_damaged_run_says_what_to_do(page: Page, served: Served) -> None:
    curves = Run(served.runs / "waiting").folder / "curves.parquet"
    whole = curves.read_bytes()
    curves.write_bytes(whole[:-10])
    (served.runs / "waiting" / "manifest.json").touch()
    try:
        open_page(page, served, "curves", run="waiting")
        expect(page.get_by_text("curves.parquet: truncated or edited")).to_be_visible()
        shoot(page, "curves-damaged")
    finally:
        curves.write_bytes(whole)
