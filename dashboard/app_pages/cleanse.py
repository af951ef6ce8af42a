"""Cleanse: does the model get better without the most harmful training items?"""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.cleanse.cleanse import (
    choose_validation,
    scores_for,
    show_curve,
    show_preview,
)
from turnover.dashboard.shared.flag_form import current_flags
from turnover.dashboard.shared.notice import no_influence, what_is_missing
from turnover.dashboard.state import current_run

opened = current_run()
if opened.influence_problem:
    no_influence(opened.run, opened.influence_problem)
    st.stop()
run, flags = opened.run, current_flags(opened.run)
what_is_missing(run)
validation, path = choose_validation(run)
scores = scores_for(run, validation)
left, right = st.columns([3, 2], gap="large")
with left:
    measured = show_curve(run, validation, path, scores, flags)
with right:
    show_preview(run, validation, scores, measured, flags)
