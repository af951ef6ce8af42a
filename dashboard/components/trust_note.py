"""A note beside the training items of an error where they are too noisy to be read one by one."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.components.links import TRUST_PAGE
from turnover.dashboard.components.notice import quiet
from turnover.dashboard.state import Opened
from turnover.report.explanation import Explanation


def trust_note(opened: Opened, explanation: Explanation) -> None:
    """Say what to read in place of single influences, if none of this error's, or of none of the run's errors, stands out of the noise."""
    certainty = opened.certainty
    if certainty is None or (certainty.share and not explanation.advice):
        return
    whose = "of this error" if certainty.share else "of any error of this run"
    reason = f"The influences {whose} are too noisy to read one by one." if certainty.known else "Nothing tells single influences of one member from noise."
    quiet(f"{reason} Look at groups of training items, or train again with more members.")
    st.page_link(TRUST_PAGE, label="How far to trust this run")
