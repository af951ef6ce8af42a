"""Map: items in two dimensions, and the influence of a group of training items chosen there."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.shared.notice import no_influence, quiet
from turnover.dashboard.state import Opened, current_run
from turnover.dashboard.training_data.map import show_group, show_map


@st.fragment
def explore(opened: Opened) -> None:
    """The map and the group; a click runs only this."""
    left, right = st.columns([3, 2], gap="medium")
    with left:
        chosen = show_map(opened)
    with right:
        show_group(opened, *chosen)


opened = current_run()
quiet(
    "Items that the model sees alike lie close together. Choose some of them to see what they did "
    "to its mistakes."
)
if opened.influence_problem:
    no_influence(opened.run, opened.influence_problem)
explore(opened)
