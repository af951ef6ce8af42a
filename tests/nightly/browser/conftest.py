"""Long flows in the browser of the short ones, and the dashboard on the two demo runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.pages.browser.browser_testing import Served, serving
from tests.pages.browser.conftest import (
    browser,
    page,
    pytest_collection_modifyitems,
    pytest_terminal_summary,
    served,
)
from turnover.workflows import demo

__all__ = ["browser", "page", "pytest_collection_modifyitems", "pytest_terminal_summary", "served"]


@pytest.fixture(scope="session")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The dashboard on the two demo runs."""
    runs = tmp_path_factory.mktemp("demos")
    for data in ("reviews", "digits"):
        demo.build_demo(runs, data, "cpu")
    with serving(runs) as dashboard:
        yield dashboard
