"""Runs: the list, and of the chosen run its curves, how far to trust it, what it is made of and
what changed since another; and a new run, as a job that continues when the page is closed.
"""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.runs.compare import show_comparison
from turnover.dashboard.runs.curves import show_curves
from turnover.dashboard.runs.details import show_details
from turnover.dashboard.runs.new_run import after_start, show_new_run
from turnover.dashboard.runs.run_list import (
    COMPARE,
    CURVES,
    DETAILS,
    NEW,
    TRUST,
    VIEW,
    VIEWS,
    show_list,
    show_work,
)
from turnover.dashboard.runs.trust import show_trust
from turnover.dashboard.shared.notice import no_runs
from turnover.dashboard.state import runs_folder

after_start()
if not show_list():
    no_runs(runs_folder())
    st.session_state.setdefault(VIEW, NEW)
show_work()
view = st.segmented_control(
    "Show",
    VIEWS,
    default=None if VIEW in st.session_state else CURVES,
    required=True,
    key=VIEW,
    bind="query-params",
    label_visibility="collapsed",
)
{
    CURVES: show_curves,
    TRUST: show_trust,
    DETAILS: show_details,
    COMPARE: show_comparison,
    NEW: show_new_run,
}[view or CURVES]()
