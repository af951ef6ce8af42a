"""Training and cleansing in a real browser: work that outlives its tab, is cancelled and resumed,
and ends in what pages show.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.pages.browser.browser_testing import Served, forget_flags, open_page, settle
from turnover.flags import Flags
from turnover.jobs import cancel_job, find_jobs, forget_job
from turnover.runs.run import Run

LONG = 120_000
TINY = {
    "train-data": "digits",
    "train-limit": "60",
    "train-members": "2",
    "train-validation-limit": "60",
}


@pytest.fixture(autouse=True)
def quiet_end(served: Served) -> Iterator[None]:
    """No job of a test goes on after it."""
    yield
    for job in find_jobs(served.runs):
        cancel_job(job)


def start(page: Page, name: str) -> None:
    page.get_by_label("Run name").fill(name)
    page.keyboard.press("Enter")
    settle(page)
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_text(f"Train {name}: digits, small-vgg").first).to_be_visible(timeout=30_000)


def test_a_training_outlives_its_tab_and_ends_as_a_run(
    browser: Browser, page: Page, served: Served
) -> None:
    open_page(page, served, "train", **TINY)
    expect(page.get_by_text("1,200 training and 597 validation images in 10")).to_be_visible()
    start(page, "made-here")
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    page.goto("about:blank")  # the tab is gone; the work is not
    other = browser.new_context().new_page()
    open_page(other, served, "", run="texts")
    expect(other.get_by_test_id("stSidebar").get_by_text("Train made-here")).to_be_visible()
    other.get_by_role("link", name="Jobs and runs").click()
    expect(other.get_by_text("Train made-here: digits, small-vgg")).to_be_visible()
    link = other.get_by_role(
        "link", name="Open the run"
    ).first  # while the list is drawn anew, the old one may still be there
    expect(other.get_by_text("Done: 2 models")).to_be_visible(timeout=LONG)
    link.click()
    expect(other.get_by_role("heading", name="Errors", exact=True)).to_be_visible(timeout=30_000)
    settle(other)
    assert "run=made-here" in other.url
    expect(other.get_by_text("60 training and 60 validation images; 2 models")).to_be_visible()
    assert Run(served.runs / "made-here").has_influence
    other.context.close()
    shutil.rmtree(served.runs / "made-here")


def test_a_training_is_cancelled_resumed_and_forgotten(page: Page, served: Served) -> None:
    open_page(
        page,
        served,
        "train",
        **{
            "train-data": "digits",
            "train-limit": "150",
            "train-members": "3",
            "train-validation-limit": "60",
        },
    )
    start(page, "stopped")
    expect(page.get_by_text(re.compile("digits: training, [1-9]"))).to_be_visible(timeout=LONG)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled. Resume it")).to_be_visible(timeout=30_000)
    assert not (served.runs / "stopped").exists() and (served.runs / "stopped.partial").exists()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("Done: 3 models")).to_be_visible(timeout=LONG)
    assert Run(served.runs / "stopped").has_influence
    page.get_by_role("button", name="Forget").first.click()
    expect(page.get_by_text("Train stopped: digits")).to_have_count(0, timeout=30_000)
    shutil.rmtree(served.runs / "stopped")


def test_one_click_says_whether_it_helps_and_another_takes_it_over(
    page: Page, served: Served
) -> None:
    folder = served.runs / "texts"
    open_page(page, served, "cleanse", run="texts", share="10")
    expect(page.get_by_text("3 of 30 training texts would go")).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Retrain and see").click()
    expect(page.get_by_text("Being measured.")).to_be_visible(timeout=30_000)
    expect(page.locator("[data-turnover=verdict]")).to_be_visible(timeout=LONG)
    expect(page.locator(".js-plotly-plot")).to_have_count(2, timeout=30_000)
    expect(page.get_by_text("without as many random ones").first).to_be_visible()
    page.get_by_role("button", name=re.compile("Take over . items as flags")).click()
    expect(page.get_by_text("training items are flagged to drop")).to_be_visible(timeout=30_000)
    flags = Flags(folder).current()
    assert {flag.action for flag in flags.values()} == {"drop"}
    expect(page.locator("[data-turnover=tray]")).to_have_text(f"{len(flags)} decisions")
    page.get_by_role("button", name="Retrain with your decisions").click()
    expect(page.get_by_text("Being measured.")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("Being measured.")).to_have_count(0, timeout=LONG)
    expect(page.get_by_text("Your decisions then")).to_be_visible(timeout=30_000)
    forget_flags(folder)
    shutil.rmtree(folder / "cleansing")
    for job in find_jobs(served.runs):
        forget_job(job)
