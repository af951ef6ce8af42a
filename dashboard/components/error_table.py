"""The list of errors: filters, the table, and which item is chosen.

Filters and the chosen item live in the URL, so that a link shows the same elsewhere. The chosen item is a select box, which
can be bound to the URL. Bound options have no `format_func`: the URL would hold what it returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from turnover.dashboard.components.item_table import content_columns, contents, item_table
from turnover.dashboard.views.errors import ANY, SORTS, Choice, NamedT, Query, choice
from turnover.report.errors import ErrorItem

ITEM = "item"


def filters(classes: list[str]) -> Query:
    """The row of filters."""
    true, predicted, search, sort = st.columns([3, 3, 5, 4])
    options = [ANY, *classes]
    return Query(
        true=true.selectbox("True class", options, key="true", bind="query-params"),
        predicted=predicted.selectbox("Predicted class", options, key="predicted", bind="query-params"),
        search=search.text_input("Search", key="search", bind="query-params", type="search", live="300ms", placeholder="Words, an id or a mark") or "",
        sort=sort.selectbox("Sort by", SORTS, key="sort", bind="query-params"),
    )


def choose_item(items: list[NamedT], key: str = ITEM, label: str = "Error") -> Choice[NamedT]:
    """The chosen item of a list, with steps to the one before and after; `lost` is what the URL or an earlier choice named, if it is not there.

    The first item of all is always an option: it is the default, and only a default may be missing from the URL.
    """
    chosen = choice(items, st.session_state[key] if key in st.session_state else st.query_params.get(key))
    if st.session_state.get(key, chosen.item.id) != chosen.item.id:
        st.session_state[key] = chosen.item.id
    options = dict.fromkeys((items[0].id, *(item.id for item in chosen.page)))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        place = st.container()
        neighbours = [items[min(max(chosen.place + by, 0), len(items) - 1)].id for by in (-1, 1)]
        st.button("Previous", shortcut="K", on_click=_go, args=(key, neighbours[0]))
        st.button("Next", shortcut="J", on_click=_go, args=(key, neighbours[1]))
    shown = place.selectbox(label, list(options), key=key, bind="query-params", label_visibility="collapsed")
    return replace(choice(items, shown), lost=chosen.lost)


def table(chosen: Choice[ErrorItem], kind: str) -> None:
    """A page of errors, the chosen one selected; a click or an arrow key chooses another."""
    columns: dict[str, Any] = {
        **content_columns(170),
        "label": st.column_config.TextColumn("True", width=72),
        "predicted": st.column_config.TextColumn("Predicted", width=76),
        "probability": st.column_config.NumberColumn("Prob.", format="%.0f%%", width=62, help="Probability of the predicted class"),
        "planted": st.column_config.TextColumn("Planted"),
        "id": st.column_config.TextColumn("Id"),
    }
    alt = "Misclassified validation items; choosing one shows the training items behind it"
    item_table("errors", ITEM, _frame(chosen.page, kind), chosen, columns, alt)


def _frame(items: Sequence[ErrorItem], kind: str) -> pd.DataFrame:
    """What the table shows; a column of marks only where some item has one."""
    frame = pd.DataFrame(
        {
            **contents(items, kind),
            "label": [item.label for item in items],
            "predicted": [item.predicted for item in items],
            "probability": [100 * item.probability for item in items],
            "planted": [item.planted for item in items],
            "id": [item.id for item in items],
        }
    )
    return frame if frame["planted"].any() else frame.drop(columns="planted")


def _go(key: str, item: str) -> None:
    st.session_state[key] = item
