"""Training item: one training item, its influences, and evidence for another label."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.shared.flag_form import current_flags, flag_problem
from turnover.dashboard.shared.notice import no_influence, notice, quiet
from turnover.dashboard.shared.tables import TRAINING_ITEM as ITEM
from turnover.dashboard.shared.tables import choose_item, training_filters, training_table
from turnover.dashboard.state import Opened, current_run
from turnover.dashboard.training_data.training_item import (
    show_effects,
    show_losses,
    show_neighbours,
    show_part_in_errors,
    show_training_item,
)
from turnover.dashboard.training_data.training_view import FLAGGED, select_training


@st.fragment
def explore(opened: Opened) -> None:
    """Search, table and chosen item; a click runs only this."""
    flags = current_flags(opened.run)
    search, order = training_filters()
    matching = select_training(opened.training, search, order, flags)
    if not matching:
        words = (
            "None is flagged yet: choose another order."
            if order == FLAGGED and not flags
            else "Clear the search, or choose another order above."
        )
        notice("No training item matches", words)
        return
    left, right = st.columns(2, gap="medium")
    with left:
        above = st.container()
        chosen = choose_item(matching, ITEM, "Training item")
        with above:
            quiet(f"Training item {chosen.place + 1:,} of {len(matching):,}")
            training_table(chosen, opened.run.kind)
    with right:
        show_training_item(opened, chosen.item, flags.get(chosen.item.position))
    flag_problem()
    if not opened.influence_problem:
        show_effects(opened, chosen.item)
        show_part_in_errors(opened, chosen.item)
    show_losses(opened.run, chosen.item)
    show_neighbours(opened, chosen.item)


opened = current_run()
quiet(
    "What one training item taught the model: whom it helps and whom it hurts, and whether its "
    "label is in doubt."
)
if opened.influence_problem:
    no_influence(opened.run, opened.influence_problem)
explore(opened)
