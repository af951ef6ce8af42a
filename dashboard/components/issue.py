"""The shown error as Markdown, in a popover with a button that copies it; made when the popover is opened."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.components.notice import quiet
from turnover.dashboard.views.issue import error_link, issue_markdown
from turnover.report.errors import ErrorItem
from turnover.report.explanation import PREDICTION, Explanation
from turnover.runs import Run


def issue_text(run: Run, item: ErrorItem, explanation: Explanation) -> None:
    """The popover."""
    popover = st.popover("Copy as Markdown", key="issue", on_change="rerun", type="tertiary")
    if popover.open:
        with popover:
            meaning = st.session_state.get("meaning") or PREDICTION
            quiet("For an issue tracker or a chat; the button in the corner copies it.")
            link = error_link(st.context.url or "", run.name, item, meaning)
            st.code(issue_markdown(run.name, item, explanation, meaning, link), language=None, wrap_lines=True, height=320)
