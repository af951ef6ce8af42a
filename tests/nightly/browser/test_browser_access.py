"""Every page on every kind of run is readable in every look, for everybody; markup in the data does
nothing.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from playwright.sync_api import Page

from tests.pages.browser.browser_testing import Served, open_page
from tests.pages.browser.looks import wrong_looks

PATHS = (
    "",
    "training_data",
    "training_data?view=list",
    "training_data?view=map",
    "cleanse",
    *(
        f"runs?view={view}"
        for view in ("Curves", "Trust", "Details", "Before+and+after", "New+run")
    ),
)
VIEWS = (
    *((path, "texts") for path in PATHS),
    *((path, "images") for path in ("", "training_data", "runs?view=Before+and+after")),
    *(("training_data?item=t003", run) for run in ("texts", "images")),
    *((path, "waiting") for path in ("", "cleanse")),
    *((path, "hostile") for path in ("", "cleanse")),
)


@pytest.mark.parametrize(("path", "run"), VIEWS)
def test_a_page_is_readable(page: Page, served: Served, path: str, run: str) -> None:
    path, _, query = path.partition("?")
    open_page(page, served, path, run=run, **dict(parse_qsl(query)))
    assert wrong_looks(page, f"{path or 'errors'}{query.partition('=')[2]}-{run}") == {}
    assert page.title() != "owned"
