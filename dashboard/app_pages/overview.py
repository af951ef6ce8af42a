"""Overview: the run, its confusion matrix, and errors to begin with."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.components.notice import heading, notice, quiet
from turnover.dashboard.components.overview import (
    show_accuracy,
    show_confusion,
    show_facts,
    show_signal,
    show_starts,
)
from turnover.dashboard.state import Opened, current_run
from turnover.dashboard.views.runs import build_confusion, starting_points


@st.fragment
def explore(opened: Opened) -> None:
    """The confusion matrix; a click runs only this."""
    show_confusion(opened.run, build_confusion(opened.run))


opened = current_run()
quiet("What this run is, where its model errs, and which errors are worth a look first.")
show_accuracy(opened.run, len(opened.misclassified))
show_signal(opened)
if opened.misclassified:
    show_starts(
        opened.run,
        starting_points(
            opened.run, opened.misclassified, with_influence=not opened.influence_problem
        ),
    )
    heading(
        "Which class is taken for which",
        "Choose a cell, a row’s or a column’s end to see the errors behind it.",
    )
    explore(opened)
else:
    notice(
        "No errors",
        f"The model is right on all {len(opened.run.validation):,} validation items, so there is no"
        " mistake to explain.",
    )
show_facts(opened)
