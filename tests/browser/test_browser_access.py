"""What axe, the accessibility engine, finds on each page: nothing but one piece of Streamlit's own."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser_testing import Served, open_page
from playwright.sync_api import Page

VIEWS = (
    *((path, "texts") for path in ("", "errors", "training", "map", "try", "flags", "cleanse", "train", "curves", "trust", "about")),
    *((path, "images") for path in ("", "errors", "training", "try")),
    *((path, "waiting") for path in ("", "errors", "cleanse")),
)

STREAMLIT = "stFileUploaderDropzone"
"""Streamlit's uploader is a `section` with the role of decoration that can be focused; nothing of ours can change that."""


def found(page: Page) -> list[str]:
    """One line for each violation: the rule, and where it is broken first."""
    violations = Axe().run(page).response["violations"]
    ours = [(one, [node["html"] for node in one["nodes"] if STREAMLIT not in node["html"]]) for one in violations]
    return [f"{one['id']}: {one['help']}: {nodes[0][:200]} ({len(nodes)})" for one, nodes in ours if nodes]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing(page: Page, served: Served, scheme: str, width: int) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 900})
    wrong = {}
    for path, run in VIEWS:
        open_page(page, served, path, run=run)
        if lines := found(page):
            wrong[f"{path or 'first'} of {run}"] = lines
    assert not wrong
