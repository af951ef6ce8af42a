"""The Flags page in a real browser: from a flag to a flag file that a colleague imports."""

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
    choose,
    first_card,
    forget_flags,
    open_page,
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
    label = first_card(page).locator(".chip").first.inner_text()
    first_card(page).get_by_role("button", name="Relabel").click()
    page.get_by_label("Decision").select_option("drop")
    page.get_by_label("Note").fill("why not")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("[data-turnover=tray]")).to_contain_text("3 flagged")
    settle(page)
    page.get_by_test_id("stMain").get_by_role("link", name="Flags & export").click()
    expect(page.get_by_text("Flag 1 of 3")).to_be_visible()
    expect(page.get_by_text("Undo takes back “drop”")).to_be_visible()
    settle(page)
    choose(page, "Decision", "Drop")
    expect(page.get_by_text("Flag 1 of 1 that match, out of 3")).to_be_visible()
    assert "decision=Drop" in page.url
    expect(page.locator(".to-target .to-chip").first).to_have_text(label)
    page.get_by_role("textbox", name="Note").fill("why not, on second thoughts")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".to-note").filter(has_text="on second thoughts")).to_be_visible()
    settle(page)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".to-note")).to_have_text("why not")
    expect(page.get_by_role("textbox", name="Note")).to_have_value("why not")
    settle(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export flag file (JSONL)").click()
    assert download.value.suggested_filename == "flagged-flags.jsonl"
    patch = Path(shutil.copyfile(download.value.path(), tmp_path / "patch.jsonl"))
    header, *lines = map(json.loads, patch.read_text().splitlines())
    assert header["count"] == len(lines) == 3 and "why not" in {line["note"] for line in lines}

    open_page(page, served, "flags", run="flagged-copy")
    expect(page.get_by_text("No training item is flagged yet")).to_be_visible()
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
    open_page(page, served, "flags", run="flagged")
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
    open_page(page, served, "flags", run="flagged")
    for button, name, start in (
        ("Export flags (CSV)", "flagged-flags.csv", "id,text,label"),
        ("Flags and errors (HTML)", "flagged.html", "<!doctype html>"),
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
    open_page(page, served, "flags", run="flagged")
    page.get_by_test_id("stDataFrame").first.hover()
    expect(page.get_by_role("button", name="Fullscreen")).to_be_visible()
    expect(page.get_by_role("button", name="Download as CSV")).to_have_count(0)


def test_hostile_notes_do_nothing(page: Page, served: Served, flagged: Path) -> None:
    open_page(page, served, "flags", run="flagged")
    expect(page.locator(".to-note").first).to_contain_text("<img src=x")
    page.get_by_text("One decision so far").click()
    assert "owned" not in page.title()
    assert page.locator(".to-note *, .to-removed img, .to-removed a").count() == 0


def test_the_page_is_readable(page: Page, served: Served, flagged: Path) -> None:
    Flags(flagged, by="ann").put(
        2,
        "relabel",
        Run(flagged).classes[int(Run(flagged).item("train", 2)["label"]) - 1],
        note="n" * 2000,
    )
    open_page(page, served, "flags", run="flagged")
    assert wrong_looks(page, "flags-flagged") == {}
