"""A note beside the training items of an error where they are too noisy to be read one by one."""

from __future__ import annotations

import streamlit as st

from core.report.explanation import Explanation
from dashboard.components.notice import quiet
from dashboard.state import Opened

TRUST_PAGE = "app_pages/trust.py"


def trust_note(opened: Opened, explanation: Explanation) -> None:
    """Say what to read in place of single influences, if none of this error's, or of none of the run's errors, stands out of the noise."""
    certainty = opened.certainty
    nowhere = certainty is not None and not certainty.share
    if not (explanation.advice or nowhere):
        return
    whose = "of any error of this run" if nowhere else "of this error"
    quiet(f"The influences {whose} are too noisy to read one by one. Look at groups of training items, or train again with more members.")
    st.page_link(TRUST_PAGE, label="How far to trust this run")
