"""Real clicks in a real browser."""

from __future__ import annotations

import re

import numpy as np
from playwright.sync_api import Page, expect

from tests.helpers.fake_runs import png
from tests.pages.browser.browser_testing import (
    Served,
    expect_error,
    open_page,
    settle,
    shoot,
)
from turnover.runs.run import Run


def test_curves(page: Page, served: Served) -> None:
    open_page(page, served, run="texts")
    page.get_by_role("link", name="Runs").click()
    expect(page.locator(".js-plotly-plot .scatterlayer .trace")).to_have_count(4, timeout=30_000)
    expect(page.get_by_label(re.compile("Losses per epoch over 3 epochs"))).to_have_count(1)
    expect(page).to_have_url(re.compile("runs.*run=texts"), timeout=20_000)
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
