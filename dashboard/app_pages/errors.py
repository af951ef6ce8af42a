"""Errors: the misclassified items, and the training items behind each of them."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.components.error_detail import (
    progress,
    show_item,
    show_training_items,
    trust_note,
)
from turnover.dashboard.components.flag_form import current_flags, flag_problem
from turnover.dashboard.components.flags import flags_bar
from turnover.dashboard.components.groups import show_groups
from turnover.dashboard.components.notice import no_influence, notice, quiet
from turnover.dashboard.components.tables import choose_item, filters, table
from turnover.dashboard.state import Opened, current_run
from turnover.dashboard.views.errors import lost_sentence, select


@st.fragment
def explore(opened: Opened) -> None:
    """Filters, table and chosen item; a click runs only this."""
    flags = current_flags(opened.run)
    flags_bar(opened.run, len(flags))
    matching = select(opened.misclassified, filters(opened.run.classes))
    if not matching:
        notice("No error matches", "Clear the search, or choose another class above.")
        return
    left, right = st.columns(2, gap="medium")
    with left:
        above = st.container()
        chosen = choose_item(matching)
        with above:
            total = (
                f" that match, out of {len(opened.misclassified):,}"
                if len(matching) < len(opened.misclassified)
                else ""
            )
            here = f"Error {chosen.place + 1:,} of {len(matching):,}{total}"
            quiet(
                lost_sentence(opened.misclassified, chosen.lost),
                here,
                progress(opened.run, chosen.item, matching),
            )
            table(chosen, opened.run.kind)
    with right:
        explanation = show_item(opened, chosen.item)
    flag_problem()
    if explanation:
        trust_note(opened, explanation)
        show_training_items(opened.run, chosen.item, explanation, flags)
        show_groups(opened.run, chosen.item)


opened = current_run()
total = len(opened.run.validation)
if opened.misclassified:
    quiet(
        f"{len(opened.misclassified):,} of {total:,} validation items are misclassified. Which "
        "training examples taught the model each mistake?"
    )
    if opened.influence_problem:
        no_influence(opened.run, opened.influence_problem)
    explore(opened)
else:
    notice(
        "No errors",
        f"The model is right on all {total:,} validation items, so there is no mistake to explain. "
        "Try your own input instead.",
    )
