"""About: how to read an influence, its limits, and the provenance of the run."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.shared.notice import bullets, heading, quiet, said
from turnover.dashboard.shared.runs_view import HOW_TO_READ, LIMITS, build_about
from turnover.dashboard.state import current_run
from turnover.explain.facts import run_facts
from turnover.explain.html import safe

said(
    "Turnover trains a classifier with turn-over dropout (Kobayashi, Yokoi, Suzuki and Inui 2020, "
    "“Efficient Estimation of Influence of a Training Instance”): every training item owns a fixed "
    "dropout mask, so half of the network learns from it and half never sees it. The item's "
    "influence on an input is the loss of the half that never saw it, minus the loss of the half "
    "that did."
)
heading("How to read an influence")
st.html(
    '<dl class="to-words">'
    + "".join(f"<dt>{safe(name)}</dt><dd>{safe(text)}</dd>" for name, text in HOW_TO_READ)
    + "</dl>"
)
heading("What it cannot tell")
bullets(LIMITS)
opened = current_run()
heading("Where this run comes from", f"What the manifest of {opened.run.name} says.")
summary = run_facts(opened.run, with_influence=not opened.influence_problem)
rows = "".join(f"<div><dt>{safe(k)}</dt><dd>{safe(v)}</dd></div>" for k, v in summary.items())
st.html(f'<dl class="to-about">{rows}</dl>')
about = build_about(opened.run)
for name, facts in about.groups:
    rows = "".join(f"<dt>{safe(fact)}</dt><dd>{safe(value)}</dd>" for fact, value in facts)
    with st.expander(name, expanded=name == "Data"):
        st.html(f'<dl class="to-pairs">{rows}</dl>')
        if name == "Data":
            bullets(about.data_report)
quiet(
    "Made by turnover; everything on these pages is computed from the run's folder or by the engine"
    " on this machine."
)
