"""The list of training items: search, order, the table, and which item is chosen; all of it lives in the URL, as on the Errors page."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from turnover.dashboard.components.item_table import content_columns, contents, item_table
from turnover.dashboard.views.errors import Choice
from turnover.dashboard.views.training import FLAGGED, ORDERS, SELF, TrainingItem

ITEM = "train"


def training_filters() -> tuple[str, str]:
    """What is searched for, and the order."""
    find, order = st.columns([5, 4])
    text = find.text_input("Search", key="find", bind="query-params", type="search", live="300ms", placeholder="Words, an id, a label or a mark") or ""
    return text, order.selectbox("Sort by", ORDERS, key="order", bind="query-params")


def training_table(chosen: Choice[TrainingItem], kind: str) -> None:
    """A page of training items, the chosen one selected; a click or an arrow key chooses another."""
    numbers = {"self": "Self-infl.", "mean": "Mean infl.", "loss": "Flipped loss"}
    columns: dict[str, Any] = {
        **content_columns(170),
        "label": st.column_config.TextColumn("Label", width=72),
        **{name: st.column_config.NumberColumn(title, format="%.3f", width=84) for name, title in numbers.items()},
        "planted": st.column_config.TextColumn("Planted"),
        "id": st.column_config.TextColumn("Id"),
    }
    alt = "Training items; choosing one shows what it did to the model"
    item_table("training", ITEM, _frame(chosen.page, kind), chosen, columns, alt, rows=False)


def go_to(item: str) -> None:
    """Choose a training item, whatever the search and the order leave out."""
    st.session_state.update({ITEM: item, "find": ""})
    if st.session_state.get("order") == FLAGGED:
        st.session_state["order"] = SELF


def _frame(items: tuple[TrainingItem, ...], kind: str) -> pd.DataFrame:
    """What the table shows; columns that say nothing are left out."""
    frame = pd.DataFrame(
        {
            **contents(items, kind),
            "label": [item.label for item in items],
            "self": [item.self_influence for item in items],
            "mean": [item.mean_influence for item in items],
            "loss": [item.flipped_loss for item in items],
            "planted": [item.planted or None for item in items],
            "id": [item.id for item in items],
        }
    )
    return frame.dropna(axis=1, how="all")
