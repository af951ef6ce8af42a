"""Errors on both demo runs: what is on the first screen, how fast a step is, and that no key is
lost and no flag goes elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
from playwright.sync_api import Page, expect

from tests.pages.browser.browser_testing import (
    Served,
    chosen,
    expect_error,
    forget_flags,
    open_page,
    settle,
    shoot,
    wrong_first_screen,
)
from tests.pages.browser.test_errors_page import DECISION, SCREENS
from turnover.flags import Flags

# Milliseconds from a key or a click until another error is painted with its teachers.
STEP_TIME = """async ([key, row]) => {
  const hosts = [...document.querySelectorAll('*')].map(node => node.shadowRoot);
  const root = hosts.map(host => host?.querySelector('.root')).find(Boolean);
  const shown = () => {
    const error = root.querySelector('[data-turnover=error]')?.dataset.id;
    return root.querySelector('[data-turnover=teacher]') ? error : '';
  };
  const before = shown(), begun = performance.now();
  if (key) document.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
  else root.querySelectorAll('.row')[row].click();
  while (!shown() || shown() === before) await new Promise(requestAnimationFrame);
  return performance.now() - begun;
}"""


@pytest.fixture
def reviews(demos: Served) -> Iterator[Path]:
    yield demos.runs / "demo-reviews"
    forget_flags(demos.runs / "demo-reviews")


@pytest.mark.parametrize("run", ["demo-reviews", "demo-digits"])
@pytest.mark.parametrize(("width", "height", "teachers"), SCREENS)
def test_every_first_screen_shows_who_taught_it(
    page: Page, demos: Served, run: str, width: int, height: int, teachers: int
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    open_page(page, demos, run=run)
    total = int(page.locator(".at").inner_text().split("/")[1])
    wrong = {}
    for number in range(1, total + 1):
        expect_error(page, f"{number} / {total}")
        if page.locator("[data-turnover=teacher]").count() and (
            found := wrong_first_screen(page, teachers)
        ):
            wrong[chosen(page)] = found
        page.keyboard.press("j")
    assert not wrong
    shoot(page, f"errors-{run}-{width}")


def test_a_held_key_loses_no_press(page: Page, demos: Served) -> None:
    open_page(page, demos, run="demo-reviews")
    expect_error(page, "1 / 50")
    for _ in range(40):
        page.keyboard.down("j")
        page.wait_for_timeout(30)
    page.keyboard.up("j")
    expect_error(page, "41 / 50")
    expect(page.locator("[data-turnover=teacher]")).to_have_count(5)


def test_a_flag_right_after_a_step_goes_to_what_is_seen(
    page: Page, demos: Served, reviews: Path
) -> None:
    open_page(page, demos, run="demo-reviews")
    expect_error(page, "1 / 50")
    flags, right = Flags(reviews), 0
    for number in range(100):
        page.wait_for_timeout(150)
        page.keyboard.press("j" if number % 50 < 49 else "k")
        page.wait_for_timeout(number % 20)
        page.keyboard.press("f")
        expect(page.locator(".chip.saving")).to_have_count(0)
        cards = page.locator(".card", has=page.locator(DECISION))
        seen = {int(card.get_attribute("data-position") or -1) for card in cards.all()}
        right += f"item={chosen(page)}" in page.url and seen == set(flags.current())
        page.keyboard.press("u")
        expect(page.locator(DECISION)).to_have_count(0)
        if number == 48:
            open_page(page, demos, run="demo-reviews")
            expect_error(page, "1 / 50")
    assert right == 100


def test_a_step_is_fast(page: Page, demos: Served) -> None:
    open_page(page, demos, run="demo-reviews")
    expect_error(page, "1 / 50")
    inside, outside = [], []
    for _ in range(15):
        page.wait_for_timeout(700)
        inside.append(page.evaluate(STEP_TIME, ["j", 0]))
    for number in range(15):
        settle(page)
        outside.append(page.evaluate(STEP_TIME, ["", 48 - 2 * number if number % 2 else number]))
    assert median(inside) < 100 and median(outside) < 400, (inside, outside)
