"""Errors, the first page: what was got wrong, and who taught it."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.errors.explorer import explorer_of, show_explorer, shown_item
from turnover.dashboard.errors.more import show_more
from turnover.dashboard.errors.try_own import answer_shown, collection_of, try_button
from turnover.dashboard.shared.notice import no_influence, notice, what_is_missing
from turnover.dashboard.shared.prove import show_proving
from turnover.dashboard.state import Opened, current_run


@st.fragment
def explore(opened: Opened) -> None:
    """List, pane and what is below; a step or a decision runs only this."""
    explorer, collection = explorer_of(opened.run), collection_of(opened)
    if not opened.influence_problem:
        if item := shown_item(opened, explorer, collection):
            answer_shown(opened, collection, item.id)
        if not opened.run.scored:
            try_button(opened)
    if not opened.misclassified and not collection.items:
        total = len(opened.run.validation)
        notice(
            "No errors",
            f"The model is right on all {total:,} validation items, so there is no mistake to "
            "explain. Try your own instead.",
        )
        return
    show_explorer(opened, explorer, collection)
    show_proving(opened.run)
    if item := shown_item(opened, explorer, collection):
        show_more(opened, item, collection)


opened = current_run()
what_is_missing(opened.run)
if opened.influence_problem:
    no_influence(opened.run, opened.influence_problem)
explore(opened)
