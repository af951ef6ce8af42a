"""Training data: the items that the model learned from, and decisions on them."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.shared.notice import no_influence, what_is_missing
from turnover.dashboard.shared.prove import show_proving
from turnover.dashboard.state import Opened, current_run
from turnover.dashboard.training_data.browser import browser_of, show_browser
from turnover.dashboard.training_data.together import drawn_map, show_together


@st.fragment
def explore(opened: Opened) -> None:
    """Items, panel and what is below; a step or a decision runs only this."""
    browser = browser_of(opened.run)
    show_browser(opened, browser, drawn_map(opened, browser.place))
    show_proving(opened.run)
    show_together(opened, browser.selected)


opened = current_run()
what_is_missing(opened.run)
if opened.influence_problem:
    no_influence(opened.run, opened.influence_problem)
explore(opened)
