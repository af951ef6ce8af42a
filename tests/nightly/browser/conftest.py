"""Long flows in the browser of the short ones."""

from __future__ import annotations

from tests.pages.browser.conftest import (
    browser,
    page,
    pytest_collection_modifyitems,
    pytest_terminal_summary,
    served,
)

__all__ = ["browser", "page", "pytest_collection_modifyitems", "pytest_terminal_summary", "served"]
