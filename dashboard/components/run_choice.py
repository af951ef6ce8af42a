"""The sidebar: the choice of the run, and a line on it."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.components.notice import quiet
from turnover.dashboard.state import RUN_KEY, forget_choices, open_run, runs_folder
from turnover.dashboard.views.runs import run_names, summarise
from turnover.errors import TurnoverError


def choose_run() -> None:
    """The choice of the run, kept in the URL, and a line on it; nothing if there are no runs."""
    names = run_names(runs_folder())
    if not names:
        return
    _name_once(names)
    name = st.selectbox("Run", names, key=RUN_KEY, bind="query-params", on_change=forget_choices)
    try:
        summary = summarise(open_run(runs_folder() / name).run)
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
