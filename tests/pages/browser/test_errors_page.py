"""Errors, home: who taught a mistake is seen at a glance; keys, decisions and addresses agree."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.helpers.kept_things import a_proof
from tests.pages.browser.browser_testing import (
    VISIBLE_WORDS,
    Served,
    choose,
    chosen,
    expect_error,
    first_card,
    forget_flags,
    open_page,
    open_tray,
    settle,
    shoot,
    wrong_first_screen,
)
from turnover.explain.causes import causes
from turnover.flags import Flags
from turnover.jobs.job import FOLDER
from turnover.runs.proofs import keep_proof
from turnover.runs.run import Run

SCREENS = ((1440, 900, 2), (1280, 800, 2), (390, 844, 1))
DECISION = "[data-turnover=decision]"


@pytest.fixture
def texts(served: Served) -> Iterator[Path]:
    """The text run, whose flags are forgotten afterwards."""
    yield served.runs / "texts"
    forget_flags(served.runs / "texts")


def rows_of(table: Path) -> list[dict[str, str]]:
    return [*csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig")))]


@pytest.mark.parametrize("run", ["texts", "images"])
@pytest.mark.parametrize(("width", "height", "teachers"), SCREENS)
def test_the_first_screen_shows_who_taught_it(
    page: Page, served: Served, run: str, width: int, height: int, teachers: int
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    open_page(page, served, run=run)
    assert wrong_first_screen(page, teachers) == []
    shoot(page, f"errors-{run}-{width}")


def test_steps_filters_and_back(page: Page, browser: Browser, served: Served) -> None:
    open_page(page, served)
    choose(page, "Run", "texts")
    expect_error(page, "1 / 8")
    assert "run=texts" in page.url
    page.locator("h1").click()
    before = page.evaluate("history.length")
    for _ in range(7):
        page.keyboard.press("j")
        page.wait_for_timeout(30)
    expect_error(page, "8 / 8")
    page.keyboard.press("k")
    expect_error(page, "7 / 8")
    assert page.evaluate("history.length") == before, "steps add nothing to the history"
    seventh = chosen(page)
    page.locator(".row").nth(1).click()
    expect_error(page, "2 / 8")
    second = chosen(page)
    page.get_by_label("Search", exact=True).fill(second)
    expect_error(page, "1 / 1")
    assert f"search={second}" in page.url
    settle(page)
    page.go_back()
    expect_error(page, "2 / 8")
    assert chosen(page) == second and "search=" not in page.url
    settle(page)
    page.go_back()
    expect_error(page, "7 / 8")
    assert chosen(page) == seventh
    settle(page)
    page.go_forward()
    expect_error(page, "2 / 8")
    elsewhere = browser.new_context().new_page()
    elsewhere.goto(page.url)
    expect_error(elsewhere, "2 / 8")
    assert chosen(elsewhere) == second
    elsewhere.context.close()
    page.get_by_label("Search", exact=True).fill("no such word")
    expect(page.get_by_text("No error matches")).to_be_visible()
    choose(page, "Run", "images")
    expect_error(page, "1 / 8")
    assert "run=images" in page.url and "search=" not in page.url


def test_a_page_and_back_finds_the_place_again(page: Page, served: Served) -> None:
    """However soon one comes back: what is being taken away or drawn has no say on the scroll."""
    page.set_viewport_size({"width": 1280, "height": 500})
    open_page(page, served, run="texts", sort="clearest")
    page.locator(".row").nth(6).click()
    expect_error(page, "7 / 8")
    settle(page)
    main, rows = page.get_by_test_id("stMain"), page.locator(".rows")
    main.evaluate("main => main.scrollTo(0, 150)")
    page.wait_for_timeout(400)
    seen, top = chosen(page), rows.evaluate("rows => rows.scrollTop")
    for stay in (0, 300, 1500):
        link = page.locator("[data-turnover=opponent]").first.get_by_role("link", name="Open")
        link.scroll_into_view_if_needed()
        down = main.evaluate("main => main.scrollTop")
        link.click()
        expect(page.get_by_role("heading", name="Training data", exact=True)).to_be_visible()
        page.wait_for_timeout(stay)
        page.go_back()
        expect_error(page, "7 / 8")
        settle(page)
        assert chosen(page) == seen and "sort=clearest" in page.url
        assert rows.evaluate("rows => rows.scrollTop") == top, stay
        assert main.evaluate("main => main.scrollTop") == down > 0, stay


def test_keys_flag_the_framed_card_and_take_it_back(
    page: Page, served: Served, texts: Path
) -> None:
    open_page(page, served, run="texts")
    expect_error(page, "1 / 8")
    first = int(page.locator(".card.focused").get_attribute("data-position") or -1)
    assert first_card(page).get_attribute("data-position") == str(first)
    page.keyboard.press("f")
    expect(page.locator(DECISION)).to_have_text("flagged: drop")
    assert {place: flag.action for place, flag in Flags(texts).current().items()} == {first: "drop"}
    assert page.locator(".card.focused").get_attribute("data-position") != str(first)
    page.keyboard.press("u")
    expect(page.locator(DECISION)).to_have_count(0)
    expect(page.locator("[data-turnover=tray]")).to_have_text("0 decisions")
    assert Flags(texts).current() == {}
    page.locator("[data-turnover=opponent]").first.get_by_role("button", name="Keep").click()
    expect(page.locator(DECISION)).to_have_text("flagged: keep")
    page.get_by_label("Search", exact=True).press_sequentially("fu")
    settle(page)
    assert len(Flags(texts).current()) == 1, "typing decides nothing"


def test_an_error_is_judged_by_key_and_exported(page: Page, served: Served, texts: Path) -> None:
    open_page(page, served, run="texts")
    expect_error(page, "1 / 8")
    error = chosen(page)
    page.keyboard.press("1")
    expect(page.get_by_role("button", name="label wrong", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(page.locator(".row[aria-current] .chip")).to_have_text("label wrong")
    page.keyboard.press("3")
    page.keyboard.press("j")
    page.keyboard.press("2")
    expect(page.locator(".row .chip")).to_have_text(["unclear", "model wrong"])
    page.keyboard.press("2")
    expect(page.locator(".row .chip")).to_have_text(["unclear"])
    page.keyboard.press("u")
    expect(page.locator(".row .chip")).to_have_text(["unclear", "model wrong"])
    page.keyboard.press("2")
    expect(page.locator(".row .chip")).to_have_text(["unclear"])
    settle(page)
    open_tray(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Judged errors (CSV)").click()
    (row,) = rows_of(Path(download.value.path()))
    assert (row["id"], row["judgement"]) == (error, "unclear") and row["by"] and row["at"]


def test_a_relabel_with_a_note_is_exported(page: Page, served: Served, texts: Path) -> None:
    open_page(page, served, run="texts")
    card = first_card(page)
    label = card.locator(".chip").first.inner_text()
    other = {"negative": "positive", "positive": "negative"}[label]
    card.get_by_role("button", name="Keep").click()
    expect(card.locator(DECISION)).to_have_text("flagged: keep")
    card.get_by_role("button", name="Change").click()
    card.get_by_label("Decision").select_option("relabel")
    card.get_by_role("button", name="Save").click()
    expect(card.get_by_label("New label")).to_be_focused()
    card.get_by_label("New label").select_option(label=other)
    card.get_by_label("Note").fill("=2+2, <b>says me</b>")
    shoot(page, "errors-flag")
    card.get_by_role("button", name="Save").click()
    expect(card.locator(DECISION)).to_have_text(f"flagged: relabel to {other}")
    page.reload()
    expect(first_card(page).locator(DECISION)).to_have_text(f"flagged: relabel to {other}")
    open_tray(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export flagged items (CSV)").click()
    (row,) = rows_of(Path(download.value.path()))
    assert (row["action"], row["new_label"]) == ("relabel", other)
    assert row["note"] == "'=2+2, <b>says me</b>"


def test_a_decision_that_cannot_be_stored_says_so(page: Page, served: Served, texts: Path) -> None:
    open_page(page, served, run="texts")
    expect_error(page, "1 / 8")
    (texts / "flags.sqlite").write_bytes(b"not a database, " * 100)
    page.keyboard.press("f")
    expect(page.get_by_text("The flag was not stored")).to_be_visible(timeout=60_000)
    expect(page.locator(DECISION)).to_have_count(0)


def test_a_proof_is_a_job_and_its_verdict_stands_below_why(
    page: Page, served: Served, texts: Path
) -> None:
    """This run was not trained here, which the job says."""
    open_page(page, served, run="texts")
    expect_error(page, "1 / 8")
    page.get_by_role("button", name="Prove it").click()
    problem = page.get_by_text("the manifest says nothing of 'plain_kept_epoch'").first
    expect(problem).to_be_visible(timeout=90_000)
    expect(page.get_by_role("button", name="Prove it")).to_be_enabled()
    run, ids = Run(texts), Run(texts).validation["id"].tolist()
    error = ids.index(chosen(page))
    why = causes(run).by_error[error].sentence
    teacher = int(first_card(page).get_attribute("data-position") or -1)
    proof = replace(a_proof(), error=error, why=why, items=(teacher,), claim="<b>two</b> boats")
    keep_proof(run, proof)
    page.reload()
    said = page.locator("[data-turnover=proof]")
    expect(said).to_contain_text("Confirmed by retraining: without <b>two</b> boats it says")
    expect(first_card(page).locator(".verdict")).to_have_text("confirmed")
    shoot(page, "errors-proof")
    shutil.rmtree(texts / "proofs")
    shutil.rmtree(served.runs / FOLDER)


def test_what_is_open_below_is_in_the_address(page: Page, browser: Browser, served: Served) -> None:
    open_page(page, served, run="texts")
    page.get_by_text("More", exact=True).click()
    expect(page.get_by_role("rowheader", name="top 10 proponents")).to_be_visible()
    expect(page).to_have_url(re.compile("more=groups"))
    page.get_by_label("Sum all training texts that contain").fill("film")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("containing=film"))
    truth = page.get_by_text("Influence on the truth: the loss of the true label")
    page.get_by_text("Why not another label?").click()
    expect(truth).to_be_visible()
    page.keyboard.press("j")
    expect_error(page, "2 / 8")
    expect(truth).to_be_visible()
    expect(page).to_have_url(re.compile("more=truth"))
    elsewhere = browser.new_context().new_page()
    elsewhere.goto(page.url)
    expect(elsewhere.get_by_text("Influence on the truth: the loss")).to_be_visible()
    expect_error(elsewhere, "2 / 8")
    elsewhere.context.close()
    settle(page)
    page.go_back()
    expect(page.get_by_label("Sum all training texts that contain")).to_have_value("film")
    settle(page)
    page.go_back()
    expect(page.get_by_label("Sum all training texts that contain")).to_have_value("")
    settle(page)
    page.go_back()
    expect(page.get_by_role("rowheader", name="top 10 proponents")).to_be_hidden()
    expect(page).not_to_have_url(re.compile("more="))
    settle(page)
    page.go_forward()
    expect(page.get_by_role("rowheader", name="top 10 proponents")).to_be_visible()


def test_errors_of_ordinary_training_are_marked_and_a_filter(page: Page, served: Served) -> None:
    open_page(page, served, run="texts")
    expect(page.locator(".headline")).to_contain_text("4 the plain model’s too")
    expect(page.locator(".twin")).to_have_count(4)
    page.get_by_label("Made by which model").select_option("no")
    expect_error(page, "1 / 4")
    expect(page.locator(".twin")).to_have_count(0)
    assert "twin=no" in page.url
    settle(page)
    page.go_back()
    expect_error(page, "1 / 8")


JARGON = re.compile(
    r"\b(nats|members?|masks?|masked|flipped|unowned|leaks?|self-influence|standard deviation"
    r"|FDR)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("path", ["", "training_data", "cleanse"])
@pytest.mark.parametrize("run", ["texts", "images"])
def test_first_screens_are_in_words_of_a_newcomer(
    page: Page, served: Served, path: str, run: str
) -> None:
    for width, height in ((1440, 900), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        open_page(page, served, path, run=run)
        words = page.evaluate(VISIBLE_WORDS)
        assert len(words) > 10 and JARGON.findall(" ".join(words)) == []


def test_the_list_is_behind_a_button_on_a_phone(page: Page, served: Served) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    open_page(page, served, run="texts")
    expect(page.locator(".row").first).to_be_hidden()
    page.get_by_role("button", name="List").click()
    page.locator(".row").nth(2).click()
    expect_error(page, "3 / 8")
    expect(page.locator(".row").first).to_be_hidden()
    page.get_by_role("button", name="Next").click()
    expect_error(page, "4 / 8")
