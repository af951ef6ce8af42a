"""Tables of items, one of which is chosen: the list of training items.

A table's selection cannot be bound to the URL, so the choice lives in a select box, which can: the
table's selection is set before it is drawn, and a click or an arrow key sets the select box.
Filters live in the URL too, so that a link shows the same elsewhere. Options bound to the URL have
no `format_func`, since the URL would hold its result.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import pandas as pd
import streamlit as st

from turnover.dashboard.shared.choice_view import Choice, NamedT, choice
from turnover.dashboard.training_data.training_view import FLAGGED, ORDERS, SELF, TrainingItem
from turnover.explain.words import snippet


class Content(Protocol):
    """An item with a text or an image."""

    @property
    def text(self) -> str: ...

    @property
    def image(self) -> bytes: ...


def item_table(
    name: str,
    key: str,
    frame: pd.DataFrame,
    chosen: Choice[NamedT],
    columns: Mapping[str, Any],
    alt: str,
    *,
    rows: bool = True,
) -> None:
    """Draw a page of items whose first column is their content, with the chosen one selected.
    `name` names the table, `key` is the widget that holds the chosen id; `rows` adds a tick box per
    row.
    """
    table, ids = f"{name}-table", f"{name}-ids"
    st.session_state[table] = {
        "selection": {
            "rows": [chosen.row] if rows else [],
            "columns": [],
            "cells": [(chosen.row, str(frame.columns[0]))],
        }
    }
    st.dataframe(
        frame,
        key=table,
        on_select=partial(_picked, table, ids, key),
        selection_mode=("single-row", "single-cell") if rows else "single-cell",
        column_config=dict(columns),
        hide_index=True,
        lazy=False,
        alt=alt,
    )
    st.session_state[ids] = [item.id for item in chosen.page]


def contents(items: Sequence[Content], kind: str) -> dict[str, list[str]]:
    """The first column, `text` or `image`."""
    return (
        {"text": [snippet(item.text) for item in items]}
        if kind == "text"
        else {"image": [thumbnail(item.image) for item in items]}
    )


def content_columns(width: int) -> dict[str, Any]:
    """The column configuration of either first column; `width` is for texts."""
    return {
        "text": st.column_config.TextColumn("Text", width=width),
        "image": st.column_config.ImageColumn("Image", width="small"),
    }


def thumbnail(png: bytes) -> str:
    """An image as a data URL for an image column."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _picked(table: str, ids: str, key: str) -> None:
    selection, known = st.session_state[table]["selection"], st.session_state[ids]
    rows = [cell[0] for cell in selection["cells"]] or selection["rows"]
    if rows and rows[0] < len(known):
        st.session_state[key] = known[rows[0]]


def choose_item(items: list[NamedT], key: str, label: str) -> Choice[NamedT]:
    """The chosen item of a list, with buttons to the previous and the next; `lost` is the id from
    the URL or an earlier choice that is not in the list. The first item is always an option: it is
    the default, and only a default may be missing from the URL.
    """
    chosen = choice(
        items, st.session_state[key] if key in st.session_state else st.query_params.get(key)
    )
    if st.session_state.get(key, chosen.item.id) != chosen.item.id:
        st.session_state[key] = chosen.item.id
    options = dict.fromkeys((items[0].id, *(item.id for item in chosen.page)))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        box = st.container()
        neighbours = [items[min(max(chosen.place + by, 0), len(items) - 1)].id for by in (-1, 1)]
        st.button("Previous", shortcut="K", on_click=_go, args=(key, neighbours[0]))
        st.button("Next", shortcut="J", on_click=_go, args=(key, neighbours[1]))
    shown = box.selectbox(
        label, list(options), key=key, bind="query-params", label_visibility="collapsed"
    )
    return replace(choice(items, shown), lost=chosen.lost)


def _go(key: str, item: str) -> None:
    st.session_state[key] = item


# Training items

TRAINING_ITEM = "train"


def training_filters() -> tuple[str, str]:
    """The search text and the order."""
    find, order = st.columns([5, 4])
    text = (
        find.text_input(
            "Search",
            key="find",
            bind="query-params",
            type="search",
            live="300ms",
            placeholder="Words, an id, a label or a mark",
        )
        or ""
    )
    return text, order.selectbox("Sort by", ORDERS, key="order", bind="query-params")


def training_table(chosen: Choice[TrainingItem], kind: str) -> None:
    """A page of training items, the chosen one selected; a click or an arrow key chooses
    another.
    """
    numbers = {"self": "Self-infl.", "mean": "Mean infl.", "loss": "Flipped loss"}
    columns: dict[str, Any] = {
        **content_columns(170),
        "label": st.column_config.TextColumn("Label", width=72),
        **{
            name: st.column_config.NumberColumn(title, format="%.3f", width=84)
            for name, title in numbers.items()
        },
        "injected": st.column_config.TextColumn("Injected"),
        "id": st.column_config.TextColumn("Id"),
    }
    alt = "Training items; choosing one shows what it did to the model"
    item_table(
        "training",
        TRAINING_ITEM,
        _training_frame(chosen.page, kind),
        chosen,
        columns,
        alt,
        rows=False,
    )


def go_to(item: str) -> None:
    """Choose a training item, resetting a search or order that could hide it."""
    st.session_state.update({TRAINING_ITEM: item, "find": ""})
    if st.session_state.get("order") == FLAGGED:
        st.session_state["order"] = SELF


def _training_frame(items: tuple[TrainingItem, ...], kind: str) -> pd.DataFrame:
    """The rows of the table, without empty columns."""
    frame = pd.DataFrame(
        {
            **contents(items, kind),
            "label": [item.label for item in items],
            "self": [item.self_influence for item in items],
            "mean": [item.mean_influence for item in items],
            "loss": [item.flipped_loss for item in items],
            "injected": [item.injected or None for item in items],
            "id": [item.id for item in items],
        }
    )
    return frame.dropna(axis=1, how="all")
