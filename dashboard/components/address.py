"""Links from page to page. They name the run, so that one opened in another tab shows the same;
labels are Markdown, so none is made of data.

Whole numbers that live in the URL, where anybody can write anything.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from turnover.dashboard.components.notice import problem
from turnover.dashboard.state import RUN_KEY
from turnover.runs.run import Run

ERRORS_PAGE, TRAINING_PAGE, TRUST_PAGE = (
    "app_pages/errors.py",
    "app_pages/training_item.py",
    "app_pages/trust.py",
)


def errors_link(run: Run, label: str, **chosen: str) -> None:
    """A link to the Errors page with an `item` or with filters chosen."""
    _link(ERRORS_PAGE, run, label, chosen)


def training_link(run: Run, label: str, item: str) -> None:
    """A link to the page of a training item, by its id."""
    _link(TRAINING_PAGE, run, label, {"train": item})


def _link(page: str, run: Run, label: str, chosen: dict[str, str]) -> None:
    st.page_link(page, label=label, query_params={RUN_KEY: run.name, **chosen})


def whole_number(label: str, *arguments: Any, **options: Any) -> Any:
    """`st.number_input` for whole numbers; on one that no float can hold, on which Streamlit fails,
    the page says so and ends.
    """
    try:
        return st.number_input(label, *arguments, **options)
    except OverflowError:
        problem(
            "This address cannot be read",
            f"Its number for “{label}” is too large; open the page without it, or write a smaller "
            "one.",
        )
        st.stop()
