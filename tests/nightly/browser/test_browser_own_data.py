"""One's own images in a real browser: named, looked at, trained on, and opened as a run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.helpers.fake_runs import png
from tests.pages.browser.browser_testing import LOW_CONTRAST, Served, open_page, settle, shoot


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
    for made in ("pictures-1", "pictures-1.partial", ".jobs"):
        shutil.rmtree(served.runs / made, ignore_errors=True)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_own_images_are_looked_at_and_trained_on(
    page: Page, served: Served, pictures: Path, scheme: str, width: int
) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 900})
    open_page(
        page,
        served,
        "train",
        **{"train-data": "your+own+files", "train-members": "1", "train-epochs": "2"},
    )
    expect(page.get_by_text("Name the file or folder with the training items.")).to_be_visible()
    page.get_by_role("textbox", name="Training file or folder").fill(str(pictures))
    page.get_by_role("textbox", name="Training file or folder").press("Enter")
    page.get_by_text("Columns, names of classes, size of images").click()
    expect(page.get_by_label("Column of the labels")).to_be_visible()
    page.get_by_role("button", name="Check the data").click()
    expect(
        page.get_by_text("1 file is no image in a class's folder and was skipped: list.txt")
    ).to_be_visible(timeout=60_000)
    expect(page.get_by_text("4 of 24 items, about 20% of each class")).to_be_visible()
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(LOW_CONTRAST) == []
    violations = Axe().run(page, "[data-testid=stMain]").response["violations"]
    assert [(one["id"], one["nodes"][0]["html"][:300]) for one in violations] == []
    shoot(page, f"train-own-{scheme}-{width}")
    if width > 1000:
        page.get_by_role("button", name="Start training").click()
        page.get_by_role("link", name="Open the run").click(timeout=120_000)
        expect(page.get_by_role("heading", name="Errors")).to_be_visible(timeout=30_000)
        assert "run=pictures-1" in page.url
