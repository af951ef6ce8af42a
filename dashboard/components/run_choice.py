"""The sidebar: which run, and what it is."""

from __future__ import annotations

import streamlit as st

from core.errors import TurnoverError
from dashboard.components.notice import quiet
from dashboard.state import RUN_KEY, forget_choices, open_run, runs_folder
from dashboard.views.runs import run_names, summarise


def choose_run() -> None:
    """The choice of a run, kept in the URL, and a line on the chosen one; nothing if there are no runs."""
    names = run_names(runs_folder())
    if not names:
        return
    name = st.selectbox("Run", names, key=RUN_KEY, bind="query-params", on_change=forget_choices)
    try:
        summary = summarise(open_run(runs_folder() / name).run)
    except TurnoverError:
        quiet("This run cannot be opened.")
        return
    quiet(f"{summary.data}: {summary.sizes}; {summary.quality}.")
