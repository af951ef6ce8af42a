"""What the URL holds: the run, links between pages, and whole-number fields.

A link names the run, so that it opens the same one in another tab. Labels are Markdown, so none is
built from data.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitAPIException

from turnover.dashboard.shared.notice import problem, quiet
from turnover.dashboard.shared.runs_view import run_names, summarise
from turnover.dashboard.state import (
    NEXT_RUN,
    RUN_KEY,
    UNKNOWN_RUN,
    forget_choices,
    open_run,
    runs_folder,
)
from turnover.errors import TurnoverError
from turnover.runs.run import Run

ERRORS_PAGE, TRAINING_PAGE, RUNS_PAGE = (
    "app_pages/errors.py",
    "app_pages/training_data.py",
    "app_pages/runs.py",
)


def training_link(run: Run, label: str, item: str) -> None:
    """A link to a training item, opened among all of them, by its id."""
    _link(TRAINING_PAGE, run, label, {"item": item})


def trust_link(run: Run) -> None:
    """A link to what tells how far to trust the run."""
    _link(RUNS_PAGE, run, "How far to trust this run", {"view": "Trust"})


def _link(page: str, run: Run, label: str, chosen: dict[str, str]) -> None:
    st.page_link(page, label=label, query_params={RUN_KEY: run.name, **chosen})


def whole_number(label: str, *arguments: Any, **options: Any) -> Any:
    """`st.number_input` for whole numbers; a number from the URL that overflows a float, on which
    Streamlit fails, is shown as a problem and stops the page.
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


def set_in_address(key: str, value: str) -> None:
    """Set a widget before it is drawn, and what the address says of it: Streamlit itself writes the
    value of a widget that was drawn before.
    """
    st.session_state[key] = value
    with suppress(StreamlitAPIException):
        st.query_params[key] = value


# The run


def choose_run() -> None:
    """The choice of the run, kept in the URL, and a line on it; nothing if there are no runs."""
    names = run_names(runs_folder())
    if not names:
        return
    _name_once(names)
    _look_for_run(names)
    # without a default, so that the address always names the run
    name = st.selectbox(
        "Run", names, index=None, key=RUN_KEY, bind="query-params", on_change=forget_choices
    )
    try:
        summary = summarise(open_run(runs_folder() / str(name)).run)
    except TurnoverError:
        quiet("This run cannot be opened.")
        return
    quiet(f"{summary.data}: {summary.sizes}; {summary.quality}.")


def _name_once(names: list[str]) -> None:
    """After a link is followed, the URL holds its `run=` and the previous one, since Streamlit
    joins them; writing the value leaves one.
    """
    if len(named := st.query_params.get_all(RUN_KEY)) > 1 and named[-1] in names:
        st.session_state[RUN_KEY] = named[-1]


def _look_for_run(names: list[str]) -> None:
    """Choose the run that work ended with; else, where none is chosen that is there, the first one,
    and remember one that is not there.
    """
    if (following := st.session_state.pop(NEXT_RUN, None)) in names:
        forget_choices()
        set_in_address(RUN_KEY, following)
    chosen = st.session_state.get(RUN_KEY) or st.query_params.get(RUN_KEY)
    if chosen in names:
        return
    set_in_address(RUN_KEY, names[0])
    if chosen:
        st.session_state[UNKNOWN_RUN] = chosen
