"""Cleanse: harmful training items, the predicted effect of removing them, and retraining."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.cleanse.cleanse import (
    ask_for_retraining,
    choose_scores,
    choose_share,
    show_plan,
    show_retraining,
)
from turnover.dashboard.shared.flag_form import current_flags
from turnover.dashboard.shared.notice import no_influence, quiet
from turnover.dashboard.state import current_run

opened = current_run()
quiet("Which training items hurt a validation set, and is the model better without them?")
if opened.influence_problem:
    no_influence(opened.run, opened.influence_problem)
    st.stop()
run, flags = opened.run, current_flags(opened.run)
validation, scores = choose_scores(run)
if scores:
    share = choose_share()
    if show_plan(run, scores, share, validation, flags):
        ask_for_retraining(run, scores, share, validation, flags)
show_retraining(run)
