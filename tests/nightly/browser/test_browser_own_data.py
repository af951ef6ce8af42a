"""One's own images in a real browser: uploaded, looked at at once, trained on, opened as a run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.helpers.fake_runs import png
from tests.pages.browser.browser_testing import LOW_CONTRAST, Served, open_page, settle, shoot
from tests.pages.browser.looks import violations


@pytest.fixture
def pictures(served: Served, tmp_path: Path) -> Iterator[Path]:
    """Twelve images of each of two classes, and a file that is none; the run that is made of them
    goes again.
    """
    for number, name in enumerate(("<b>red<", "blue")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for place in range(12):
            pixels = np.random.default_rng(place).integers(0, 90, (10, 10, 3), np.uint8)
            pixels[..., 2 * number] += 150
            (tmp_path / "pictures" / name / f"{place}.png").write_bytes(png(pixels))
    (tmp_path / "pictures" / "list.txt").write_text("x")
    yield tmp_path / "pictures"
    for made in ("pictures-1", "pictures-1.partial", ".jobs", ".uploads"):
        shutil.rmtree(served.runs / made, ignore_errors=True)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_own_images_are_looked_at_and_trained_on(
    page: Page, served: Served, pictures: Path, scheme: str, width: int
) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 900})
    open_page(page, served, "train", **{"train-members": "1", "train-epochs": "2"})
    expect(page.get_by_text("Columns, classes and the model follow from the data.")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    archive = shutil.make_archive(str(pictures), "zip", pictures)
    page.locator("input[type=file]").first.set_input_files(archive)
    expect(
        page.get_by_text("1 file is no image in a class's folder and was skipped: list.txt")
    ).to_be_visible(timeout=60_000)
    expect(page).to_have_url(re.compile("own-train=.*uploads"), timeout=20_000)
    expect(page.get_by_role("combobox", name="Model")).to_have_value("small-vgg")
    expect(page.get_by_text("4 of 24 items, about 20% of each class")).to_be_visible()
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(LOW_CONTRAST) == []
    assert violations(page) == []
    shoot(page, f"train-own-{scheme}-{width}")
    if width > 1000:
        page.get_by_role("button", name="Start training").click()
        expect(page).to_have_url(re.compile("view=Curves.*training=pictures-1"), timeout=60_000)
        expect(page).to_have_url(re.compile("run=pictures-1"), timeout=120_000)
        expect(page.locator(".js-plotly-plot .scatterlayer .trace")).to_have_count(4)
        page.get_by_role("link", name="Open the run").click(timeout=120_000)
        expect(page.get_by_role("heading", name="Errors")).to_be_visible(timeout=30_000)
        assert "run=pictures-1" in page.url
