"""The tray in a real browser: from a flag to a flag file that a colleague imports."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.helpers.fake_runs import HOSTILE, FakeRun
from tests.pages.browser.browser_testing import (
    LOW_CONTRAST,
    Served,
    first_card,
    forget_flags,
    open_page,
    open_tray,
    settle,
    shoot,
)
from tests.pages.browser.looks import wrong_looks
from turnover.flags import Flags
from turnover.runs.run import Run

MISCHIEF = f"{HOSTILE[0]} {HOSTILE[1]} {HOSTILE[3]} =1+1 \u202eabc"


@pytest.fixture
def flagged(served: Served) -> Iterator[Path]:
    """A run of its own with a flag of a colleague; and a copy of it without flags."""
    folder = served.runs / "flagged"
    if not folder.exists():
        FakeRun("flagged").write(served.runs)
        shutil.copytree(folder, served.runs / "flagged-copy")
    Flags(folder, by="bob").put_many([2, 3], "keep", note=MISCHIEF)
    yield folder
    for name in ("flagged", "flagged-copy"):
        forget_flags(served.runs / name)


def test_from_a_flag_to_a_patch_that_a_colleague_imports(
    page: Page, served: Served, flagged: Path, tmp_path: Path
) -> None:
    open_page(page, served, run="flagged")
    first_card(page).get_by_role("button", name="Relabel").click()
    page.get_by_label("Decision").select_option("drop")
    page.get_by_label("Note").fill("why not")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("[data-turnover=tray]")).to_have_text("3 decisions")
    expect(page.get_by_text("3 flagged")).to_be_visible()
    settle(page)
    open_tray(page)
    expect(page.get_by_text("Undo takes back “drop”")).to_be_visible()
    entry = page.locator(".to-entry").filter(has_text="why not")
    expect(entry).to_have_count(1)
    page.get_by_role("button", name="Undo", exact=True).first.click()
    expect(entry).to_have_count(0)
    expect(page.locator("[data-turnover=tray]")).to_have_text("2 decisions")
    expect(page.get_by_text("2 flagged")).to_be_visible()
    Flags(flagged, by="ann").put(5, "drop", note="why not")
    page.reload()
    expect(page.locator("[data-turnover=tray]")).to_have_text("3 decisions")
    settle(page)
    open_tray(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Flag file", exact=True).click()
    assert download.value.suggested_filename == "flagged-flags.jsonl"
    patch = Path(shutil.copyfile(download.value.path(), tmp_path / "patch.jsonl"))
    header, *lines = map(json.loads, patch.read_text().splitlines())
    assert header["count"] == len(lines) == 3 and "why not" in {line["note"] for line in lines}

    open_page(page, served, "cleanse", run="flagged-copy")
    open_tray(page)
    expect(page.get_by_text("Nothing is decided yet")).to_be_visible()
    for sentence in ("3 flags are new", "Nothing new: 3 of its flags are known"):
        page.locator("input[type=file]").set_input_files(patch)
        expect(page.get_by_text("patch.jsonl")).to_be_visible()
        page.get_by_role("button", name="Import", exact=True).click()
        expect(page.get_by_text(sentence)).to_be_visible()
        settle(page)
    assert Flags(served.runs / "flagged-copy").current() == Flags(flagged).current()


def test_people_who_differ_are_settled_by_one_click(
    page: Page, served: Served, flagged: Path
) -> None:
    Flags(flagged, by="ann").put(2, "drop", note="hurts")
    open_page(page, served, "flags", run="flagged")  # where it was in earlier versions
    open_tray(page)
    expect(page.get_by_role("heading", name="People differ on 1 item")).to_be_visible()
    shoot(page, "flags-conflict")
    page.get_by_role("button", name="Settle for B").click()
    expect(page.get_by_role("heading", name="People differ")).to_have_count(0)
    settle(page)
    assert (
        Flags(flagged).current()[2].verdict == ("drop", "")
        and Flags(flagged).overview().conflicts == []
    )


def test_a_table_and_a_page_are_downloaded(page: Page, served: Served, flagged: Path) -> None:
    open_page(page, served, run="flagged")
    open_tray(page)
    for button, name, start in (
        ("Export flagged items (CSV)", "flagged-flags.csv", "\ufeffid,text,label"),
        ("Report (HTML)", "flagged.html", "<!doctype html>"),
    ):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        assert download.value.suggested_filename == name
        text = Path(download.value.path()).read_text(encoding="utf-8")
        assert text.startswith(start) and "=1+1" in text
    shown = page.context.new_page()
    shown.set_content(text)
    assert (
        shown.title() == "What taught flagged its mistakes"
        and shown.locator(".flags li").count() == 2
    )
    assert shown.locator(".flags b, .flags img, .flags script, .flags a").count() == 0
    shown.emulate_media(color_scheme="dark")
    assert shown.evaluate(LOW_CONTRAST) == []


def test_the_only_table_to_take_away_is_safe_for_spreadsheets(
    page: Page, served: Served, flagged: Path
) -> None:
    open_page(page, served, "runs", run="flagged")
    page.get_by_test_id("stDataFrame").first.hover()
    expect(page.get_by_role("button", name="Fullscreen")).to_be_visible()
    expect(page.get_by_role("button", name="Download as CSV")).to_have_count(0)


def test_the_tray_is_readable_and_hostile_notes_do_nothing(
    page: Page, served: Served, flagged: Path
) -> None:
    run = Run(flagged)
    other = run.classes[int(run.item("train", 2)["label"]) - 1]
    Flags(flagged, by="ann").put(2, "relabel", other, note="n" * 2000)
    open_page(page, served, run="flagged")
    open_tray(page)
    expect(page.locator(".to-note").filter(has_text="<img src=x").first).to_be_visible()
    assert "owned" not in page.title()
    assert page.locator(".to-note *").count() == 0
    assert wrong_looks(page, "tray-flagged") == {}
