"""The table of many texts: a click, an arrow key or the select box chooses the one that is explained below."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from turnover.dashboard.components.notice import heading
from turnover.dashboard.views.batch import Reply, batch_table

ROW, _TABLE = "try-row", "try-table"


def choose_row(replies: Sequence[Reply]) -> int:
    """The table, and which of its rows (from 0) is chosen."""
    heading(f"{len(replies)} texts", "Each with its strongest proponent; influence in nats, on the loss of the label that you chose above.")
    place = st.container()
    number = int(st.selectbox("Explain row", range(1, len(replies) + 1), key=ROW, width=140))
    st.session_state[_TABLE] = {"selection": {"rows": [number - 1], "columns": [], "cells": [(number - 1, "text")]}}
    with place:
        st.dataframe(
            batch_table(replies),
            key=_TABLE,
            on_select=_picked,
            selection_mode=("single-row", "single-cell"),
            column_config={
                "text": st.column_config.TextColumn("Text", width=240),
                "predicted": st.column_config.TextColumn("Predicted"),
                "probability": st.column_config.NumberColumn("Prob.", format="%.0f%%"),
                "proponent": st.column_config.TextColumn("Strongest proponent", width=240),
                "label": st.column_config.TextColumn("Its label"),
                "influence": st.column_config.NumberColumn("Influence", format="%+.3f"),
                "trust": st.column_config.TextColumn("Trust"),
            },
            hide_index=True,
            lazy=False,
            alt="Your texts with their predictions; choosing one shows the training items behind it",
        )
    return number - 1


def _picked() -> None:
    selection = st.session_state[_TABLE]["selection"]
    rows = [cell[0] for cell in selection["cells"]] or selection["rows"]
    if rows:
        st.session_state[ROW] = rows[0] + 1
