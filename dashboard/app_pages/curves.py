"""Curves: the four losses per epoch of a run, or of a run in training."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.runs.curves import (
    choose_training,
    explore_gaps,
    run_leaks,
    show_leak,
    show_numbers,
    show_table,
    show_training,
)
from turnover.dashboard.runs.curves_view import build_curves
from turnover.dashboard.shared.notice import quiet
from turnover.dashboard.state import current_run

quiet("How the losses went in training, and whether the flipped masks really see unlearned items.")
training = choose_training()
if training:
    show_training(training)
    st.stop()
run = current_run().run
curves = build_curves(run)
show_numbers(curves)
show_leak(run_leaks(run, curves), list(map(str, run.manifest.get("leaks", []))))
explore_gaps(run, curves)
show_table(curves)
