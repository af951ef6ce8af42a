"""Every page on every kind of run is readable in every look, for everybody; markup in the data does
nothing.
"""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.pages.browser.browser_testing import Served, open_page
from tests.pages.browser.looks import wrong_looks

PATHS = (
    "",
    "training",
    "map",
    "flags",
    "cleanse",
    "train",
    "curves",
    "trust",
    "about",
)
VIEWS = (
    *((path, "texts") for path in PATHS),
    *((path, "images") for path in ("", "training", "curves")),
    *((path, "waiting") for path in ("", "cleanse")),
    *((path, "hostile") for path in ("", "flags", "cleanse")),
)


@pytest.mark.parametrize(("path", "run"), VIEWS)
def test_a_page_is_readable(page: Page, served: Served, path: str, run: str) -> None:
    open_page(page, served, path, run=run)
    assert wrong_looks(page, f"{path or 'errors'}-{run}") == {}
    assert page.title() != "owned"
