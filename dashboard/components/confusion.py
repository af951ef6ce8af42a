"""The confusion matrix: a table whose cells, rows and columns lead to the errors behind them.

A cell is chosen by mouse, by arrow keys, or by the two select boxes, which live in the URL; only the link below it leaves the
page, so that arrow keys can pass through the table.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from turnover.dashboard.components.links import errors_link
from turnover.dashboard.components.notice import quiet, said
from turnover.dashboard.views.errors import ANY
from turnover.dashboard.views.overview import Confusion
from turnover.runs import Run

TRUE, PREDICTED, TABLE = "confused", "taken-for", "confusion"
_SHADE = "#cf6f2d"
"""Of the errors, in both themes, never so dense that the number on it is hard to read."""

_TALL, _SHADED = 24, 64
"""Rows that are shown without scrolling, and with shades: pandas takes long to style many cells."""


def show_confusion(run: Run, confusion: Confusion) -> None:
    """Select boxes, the table, and the link to the errors behind what is chosen."""
    left, right = st.columns(2)
    options = [ANY, *confusion.classes]
    true = left.selectbox("True class", options, key=TRUE, bind="query-params")
    predicted = right.selectbox("Predicted class", options, key=PREDICTED, bind="query-params")
    _table(confusion, true, predicted)
    said(confusion.chosen(true, predicted))
    if confusion.behind(true, predicted):
        errors_link(run, "Show these errors", true=true, predicted=predicted)


def _table(confusion: Confusion, true: str, predicted: str) -> None:
    """True classes downwards, predicted ones to the right; the last row and column count errors."""
    cells = [] if true == predicted == ANY else [(confusion.options.index(true), str(confusion.options.index(predicted)))]
    st.session_state[TABLE] = {"selection": {"rows": [], "columns": [], "cells": cells}}
    names = [*confusion.classes, "All errors"]
    frame = pd.DataFrame(confusion.table, columns=[str(place) for place in range(len(names))])
    columns: dict[str, Any] = {name: st.column_config.NumberColumn(label, width=64) for name, label in zip(frame.columns, names, strict=True)}
    frame.insert(0, "true", names)
    columns["true"] = st.column_config.TextColumn("True ↓  predicted →", width=150, pinned=True)
    st.dataframe(
        frame.style.apply(_shades, axis=None, confusion=confusion) if len(names) <= _SHADED else frame,
        key=TABLE,
        on_select=lambda: _picked(confusion.options),
        selection_mode="single-cell",
        column_config=columns,
        hide_index=True,
        lazy=False,
        width="content",
        height="content" if len(names) <= _TALL else 35 * _TALL,
        alt=confusion.alt,
    )
    shades = " The darker, the more errors." if len(names) <= _SHADED else ""
    quiet(f"Rows are true classes, columns predicted ones.{shades} Right answers are on the diagonal.")


def _shades(frame: pd.DataFrame, confusion: Confusion) -> pd.DataFrame:
    """A background for each cell with errors."""
    wrong, shades = confusion.errors, np.full(frame.shape, "", dtype=object)
    most = wrong.max(initial=1)
    for true, predicted in zip(*wrong.nonzero(), strict=True):
        shades[true, 1 + predicted] = f"background-color: {_SHADE}{round(24 + 80 * wrong[true, predicted] / most):02x}"
    return pd.DataFrame(shades, index=frame.index, columns=frame.columns)


def _picked(options: list[str]) -> None:
    cells = st.session_state[TABLE]["selection"]["cells"]
    if cells:
        row, column = cells[0]
        st.session_state[TRUE] = options[row]
        st.session_state[PREDICTED] = ANY if column == "true" else options[int(column)]
