"""A day's work in a real browser: errors by key, a text that is changed, and a training that is
watched.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Page, expect
from safetensors.numpy import save_file

from tests.helpers.fake_runs import FakeRun
from tests.pages.browser.browser_testing import (
    LOW_CONTRAST,
    Served,
    chosen,
    expect_error,
    open_page,
    settle,
    shoot,
    try_own,
)
from tests.pages.browser.looks import wrong_looks
from turnover.runs.run import RUN_FILES
from turnover.storage.artifacts import MANIFEST, write_manifest


def test_progress_is_counted_and_an_error_is_copied(page: Page, served: Served) -> None:
    open_page(page, served, run="texts", item="nothing")
    expect(page.get_by_text("“nothing” is not among the errors of this run")).to_be_visible()
    for number in (2, 3, 4):
        page.keyboard.press("j")
        expect_error(page, f"{number} / 8")
        settle(page)
    expect(page.get_by_text("is not among the errors")).to_have_count(0)
    expect(page.get_by_text(re.compile("4 of 8 seen, .* left"))).to_be_visible()
    page.get_by_text("More", exact=True).click()
    page.get_by_text("Copy as Markdown", exact=True).click()
    code = page.locator("[data-testid=stCode]")
    expect(code).to_contain_text("### `v")
    assert f"run=texts&item={chosen(page)}" in code.inner_text()
    shoot(page, "errors-markdown")


def test_a_text_is_changed_and_what_moved_is_shown(page: Page, served: Served) -> None:
    open_page(page, served, run="texts")
    try_own(page, text="A slow submarine story")
    expect(page.locator("[data-turnover=teacher]")).to_have_count(5, timeout=180_000)
    page.get_by_text("More", exact=True).click()
    page.get_by_text("Change it", exact=True).click()
    page.get_by_label("Edited", exact=True).fill("A slow <b>boat</b> story")
    page.get_by_role("button", name="Ask again").click()
    expect(page.get_by_text("After the edit")).to_be_visible()
    expect(page.get_by_text(re.compile(r"no\. \d+ (for|against), [\d.]+%")).first).to_be_visible()
    page.get_by_role("button", name="Leave out each word in turn").click()
    expect(page.locator(".to-chances").get_by_text("3. submarine", exact=True)).to_be_visible()
    settle(page)
    assert page.evaluate(LOW_CONTRAST) == []
    shoot(page, "try-edited")
    page.get_by_text("Why not another label?", exact=True).click()
    expect(page.get_by_text("Influence on the loss of the label")).to_be_visible()


def test_the_regions_of_an_error_are_marked_and_its_patches_left_out(
    page: Page, served: Served
) -> None:
    open_page(page, served, run="images")
    page.get_by_text("More", exact=True).click()
    page.get_by_text("Regions", exact=True).click()
    page.get_by_role("button", name="Mark the regions").click()
    expect(page.locator(".to-map i")).to_have_count(16, timeout=180_000)
    image, cells = (
        page.locator(place).bounding_box() for place in (".to-map img", ".to-map > div")
    )
    assert image and cells and image["width"] == cells["width"]
    assert abs(image["height"] - cells["height"]) <= 1
    settle(page)
    assert page.evaluate(LOW_CONTRAST) == []
    shoot(page, "errors-regions")
    page.get_by_text("Change it", exact=True).click()
    page.get_by_role("button", name="Leave out each patch in turn").click(timeout=180_000)
    expect(page.locator(".to-chances")).to_have_count(1, timeout=60_000)


@pytest.fixture
def training(served: Served) -> Iterator[Path]:
    folder = served.runs / "young.partial"
    folder.mkdir()
    (folder / "settings.json").write_text("{}")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(served.runs / "young", ignore_errors=True)


def write_checkpoint(folder: Path, epochs: int) -> None:
    curves = {
        name: [loss / (epoch + 1) for epoch in range(epochs)]
        for name, loss in (("masked", 0.5), ("flipped", 0.9), ("validation", 0.4), ("unowned", 0.9))
    }
    facts = {"made_with": {"recipe": {"epochs": 30}}, "curves": curves, "accuracy": [0.25] * epochs}
    tensors = {
        "flipped_items": np.ones((epochs, 9), np.float32),
        "validation_items": np.ones((epochs, 5), np.float32),
    }
    save_file(tensors, folder / "beside", {"facts": json.dumps(facts)})
    (folder / "beside").rename(folder / "masked.checkpoint")


def test_a_training_is_watched_until_it_is_a_run(
    page: Page, served: Served, training: Path
) -> None:
    open_page(page, served, "runs", training="young")
    expect(page.get_by_text("The curves appear here after the first epoch")).to_be_visible()
    for epochs in (2, 4):
        write_checkpoint(training, epochs)
        expect(page.get_by_text(f"Epoch {epochs} of at most 30")).to_be_visible()
        expect(
            page.locator(".js-plotly-plot .scatterlayer .trace").nth(1).locator(".point")
        ).to_have_count(epochs)
    shoot(page, "curves-training")
    FakeRun("young").write(served.runs)
    shutil.rmtree(training)
    expect(page).to_have_url(re.compile("run=young"), timeout=20_000)
    expect(page.get_by_text("ordinary training: 70.0%")).to_be_visible()


def test_what_is_new_is_readable(page: Page, served: Served, training: Path) -> None:
    write_checkpoint(training, 3)
    open_page(page, served, "runs", training="young")
    assert wrong_looks(page, "curves-young") == {}
    open_page(page, served, run="texts", item="nothing")
    assert wrong_looks(page, "errors-unknown") == {}


def test_errors_that_are_gone_lead_to_the_run_that_made_them(page: Page, served: Served) -> None:
    for name in ("before", "after"):
        if not (served.runs / name).exists():
            FakeRun(name).write(served.runs)
    items = pd.read_parquet(served.runs / "after" / "items.parquet")
    items.loc[items["split"] == "validation", "predicted"] = items["label"]
    items.to_parquet(served.runs / "after" / "items.parquet", index=False)
    facts = json.loads((served.runs / "after" / MANIFEST).read_text(encoding="utf-8"))
    facts["results"]["validation_accuracy"] = 1.0
    kept = {name: fact for name, fact in facts.items() if name not in ("format", "files")}
    write_manifest(served.runs / "after", kept, RUN_FILES)
    try:
        open_page(page, served, "runs", run="after", view="Before+and+after")
        expect(page).to_have_url(re.compile("before=before"))
        expect(page.get_by_text("8 errors gone, 0 new: it got better")).to_be_visible()
        assert wrong_looks(page, "runs-compared") == {}
        page.locator(".to-changed a").first.click()
        expect(page.locator("[data-turnover=error]")).to_have_attribute("data-id", "v000")
        assert "run=before" in page.url
    finally:
        for name in ("before", "after"):
            shutil.rmtree(served.runs / name)


@pytest.mark.parametrize(
    ("old", "view"),
    [("train", "New run"), ("curves", "Curves"), ("trust", "Trust"), ("about", "Details")],
)
def test_addresses_of_earlier_versions_lead_to_their_tab(
    page: Page, served: Served, old: str, view: str
) -> None:
    open_page(page, served, old, run="images")
    expect(page.get_by_role("radio", name=view)).to_be_checked(timeout=30_000)
    expect(page).to_have_url(re.compile("/runs.*run=images"))
