"""A table of items, one of which is chosen: Errors, Training item and Flags & export show theirs with it.

A table's selection cannot be bound to the URL. So the choice lives elsewhere, in a widget that can; the table is told what is
chosen before it is drawn, and reports a click or an arrow key by choosing another.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import pandas as pd
import streamlit as st

from turnover.dashboard.views.errors import Choice, NamedT
from turnover.report.words import snippet


class Content(Protocol):
    """An item with a text or an image."""

    @property
    def text(self) -> str: ...

    @property
    def image(self) -> bytes: ...


def item_table(name: str, key: str, frame: pd.DataFrame, chosen: Choice[NamedT], columns: Mapping[str, Any], alt: str, *, rows: bool = True) -> None:
    """Draw a page of items whose first column is their content, the chosen one selected.

    `name` is the table's own, `key` the widget that holds the chosen item's id; `rows` says whether a row has a box to tick.
    """
    table, ids = f"{name}-table", f"{name}-ids"
    st.session_state[table] = {"selection": {"rows": [chosen.row] if rows else [], "columns": [], "cells": [(chosen.row, str(frame.columns[0]))]}}
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
    return {"text": [snippet(item.text) for item in items]} if kind == "text" else {"image": [thumbnail(item.image) for item in items]}


def content_columns(width: int) -> dict[str, Any]:
    """How either first column is shown; `width` is that of texts."""
    return {"text": st.column_config.TextColumn("Text", width=width), "image": st.column_config.ImageColumn("Image", width="small")}


def thumbnail(png: bytes) -> str:
    """An image as the address that a table's column of images takes."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _picked(table: str, ids: str, key: str) -> None:
    selection, known = st.session_state[table]["selection"], st.session_state[ids]
    rows = [cell[0] for cell in selection["cells"]] or selection["rows"]
    if rows and rows[0] < len(known):
        st.session_state[key] = known[rows[0]]
