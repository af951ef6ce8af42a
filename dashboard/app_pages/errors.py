"""Errors, the first page: what was got wrong, and who taught it."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.errors.explorer import explorer_of, show_explorer
from turnover.dashboard.errors.more import show_more
from turnover.dashboard.shared.notice import no_influence, notice
from turnover.dashboard.shared.prove import show_proving
from turnover.dashboard.state import Opened, current_run


@st.fragment
def explore(opened: Opened) -> None:
    """List, pane and what is below; a step or a decision runs only this."""
    item = show_explorer(opened, explorer_of(opened.run))
    show_proving(opened.run)
    if item:
        show_more(opened, item)


opened = current_run()
if opened.influence_problem and opened.misclassified:
    no_influence(opened.run, opened.influence_problem)
if opened.misclassified:
    explore(opened)
else:
    total = len(opened.run.validation)
    notice(
        "No errors",
        f"The model is right on all {total:,} validation items, so there is no mistake to explain. "
        "Try your own input instead.",
    )
