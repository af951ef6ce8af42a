"""Trust: how reliable the influences of the run are, and how they compare with other methods."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.runs.trust import show_measured, show_trust, show_words
from turnover.dashboard.runs.trust_view import build_trust
from turnover.dashboard.shared.notice import no_influence, quiet
from turnover.dashboard.state import current_run
from turnover.research.evaluate.results import read_results

opened = current_run()
quiet(
    "How far the influences of this run can be trusted: told from noise, and measured against "
    "answers that are known."
)
if opened.certainty is None:
    no_influence(opened.run, opened.influence_problem)
    st.stop()
results = read_results(opened.run)
trust = build_trust(opened.certainty, results)
show_trust(trust)
show_measured(opened.run, results)
show_words(trust)
