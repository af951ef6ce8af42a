"""Which errors of a run somebody has seen in this session."""

from __future__ import annotations

import time
from collections.abc import Sequence

import streamlit as st

from turnover.dashboard.views.visits import Visits, progress_sentence, visit
from turnover.report.errors import ErrorItem
from turnover.runs import Run

_KEY = "visits"


def progress(run: Run, shown: ErrorItem, matching: Sequence[ErrorItem]) -> str:
    """Note that an error is shown; says how far the work through those that match has come."""
    known = st.session_state.setdefault(_KEY, {})
    visits = known[str(run.folder)] = visit(known.get(str(run.folder), Visits()), shown.id, time.monotonic())
    return progress_sentence(visits, [item.id for item in matching])
