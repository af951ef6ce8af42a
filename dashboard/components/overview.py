"""The Overview page: accuracy, how far to trust the run, errors to begin with, confusion matrix.

A cell of the matrix is chosen by mouse, by arrow keys, or by the two select boxes, which live in
the URL. Only the link below leaves the page, so that arrow keys can pass through the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from turnover.dashboard.components.address import TRUST_PAGE, errors_link
from turnover.dashboard.components.notice import heading, no_influence, quiet, said
from turnover.dashboard.components.trust import verdict
from turnover.dashboard.state import Opened
from turnover.dashboard.views.errors import ANY
from turnover.dashboard.views.runs import Confusion, Start, share_words
from turnover.dashboard.views.trust import GOAL, sentence_of
from turnover.explain.facts import run_facts
from turnover.explain.html import chip_html, image_html, mark_html, safe
from turnover.explain.words import snippet
from turnover.runs.run import Run


def show_accuracy(run: Run, errors: int) -> None:
    """Accuracy with and without turn-over dropout, and how many errors there are."""
    results = run.manifest["results"]
    with st.grid(4, min_column_width=150):
        st.metric(
            "Validation accuracy",
            f"{results['validation_accuracy']:.1%}",
            border=True,
            help="With turn-over dropout",
        )
        st.metric(
            "Plain twin accuracy",
            share_words(results["plain_accuracy"]),
            border=True,
            help="The same network, trained alike without turn-over dropout",
        )
        st.metric(
            "Errors",
            f"{errors:,}",
            border=True,
            help=f"Of {len(run.validation):,} validation items",
        )
        st.metric(
            "Members",
            f"{results['members']:,}",
            border=True,
            help="Models that differ in masks, initialisation and batches",
        )


def show_signal(opened: Opened) -> None:
    """Whether single influences of the run can be read, or why there is no influence."""
    if opened.certainty is None:
        no_influence(opened.run, opened.influence_problem)
    else:
        verdict(sentence_of(opened.certainty), opened.certainty.share >= GOAL)
        st.page_link(TRUST_PAGE, label="How far to trust this run")


def show_starts(run: Run, starts: Sequence[Start]) -> None:
    """The errors to begin with, each with its reason and a link."""
    heading("Three errors to begin with" if len(starts) > 2 else "Errors to begin with")
    with st.grid(len(starts), min_column_width=260):
        for start in starts:
            with st.container(border=True, gap="xsmall"):
                st.html(_start_html(start))
                errors_link(run, f"Open error {start.item.rank + 1:,}", item=start.item.id)


def show_facts(opened: Opened) -> None:
    """Facts about the run, from its manifests."""
    heading("This run")
    facts = run_facts(opened.run, with_influence=not opened.influence_problem)
    items = "".join(
        f"<div><dt>{safe(name)}</dt><dd>{safe(value)}</dd></div>" for name, value in facts.items()
    )
    st.html(f'<dl class="to-about">{items}</dl>')
    if opened.run.manifest.get("leaks") == []:
        quiet(
            "Nothing is listed that leaks from one training item’s half of the network into the "
            "other."
        )


def _start_html(start: Start) -> str:
    item = start.item
    if item.image:
        body = image_html(
            item.image, 96, f"validation image of class {item.label}, predicted {item.predicted}"
        )
    else:
        body = f'<div class="to-text" dir="auto">{safe(snippet(item.text, 220))}</div>'
    facts = (
        f"{chip_html(item.label)}<span "
        f'class="to-arrow">→</span>{chip_html(item.predicted, "wrong")}{mark_html(item.injected)}'
    )
    return (
        f'{body}<div class="to-facts">{facts}<span class="to-id">{safe(item.id)}</span></div><p '
        f'class="to-quiet">{safe(start.why)}</p>'
    )


# The confusion matrix

TRUE, PREDICTED, TABLE = "confused", "taken-for", "confusion"
_SHADE = "#cf6f2d"
"""The background of errors in both themes, light enough for the number on it."""

_TALL, _SHADED = 24, 64
"""Most rows without scrolling, and with shades, since pandas is slow at styling many cells."""


def show_confusion(run: Run, confusion: Confusion) -> None:
    """Select boxes, the table, and the link to the errors of the chosen cell."""
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
    cells = (
        []
        if true == predicted == ANY
        else [(confusion.options.index(true), str(confusion.options.index(predicted)))]
    )
    st.session_state[TABLE] = {"selection": {"rows": [], "columns": [], "cells": cells}}
    names = [*confusion.classes, "All errors"]
    frame = pd.DataFrame(confusion.table, columns=[str(index) for index in range(len(names))])
    columns: dict[str, Any] = {
        name: st.column_config.NumberColumn(label, width=64)
        for name, label in zip(frame.columns, names, strict=True)
    }
    frame.insert(0, "true", names)
    columns["true"] = st.column_config.TextColumn("True ↓  predicted →", width=150, pinned=True)
    st.dataframe(
        (
            frame.style.apply(_shades, axis=None, confusion=confusion)
            if len(names) <= _SHADED
            else frame
        ),
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
    quiet(
        f"Rows are true classes, columns predicted ones.{shades} Right answers are on the diagonal."
    )


def _shades(frame: pd.DataFrame, confusion: Confusion) -> pd.DataFrame:
    """A background for each cell with errors."""
    wrong, shades = confusion.misclassified, np.full(frame.shape, "", dtype=object)
    most = wrong.max(initial=1)
    for true, predicted in zip(*wrong.nonzero(), strict=True):
        shades[true, 1 + predicted] = (
            f"background-color: {_SHADE}{round(24 + 80 * wrong[true, predicted] / most):02x}"
        )
    return pd.DataFrame(shades, index=frame.index, columns=frame.columns)


def _picked(options: list[str]) -> None:
    cells = st.session_state[TABLE]["selection"]["cells"]
    if cells:
        row, column = cells[0]
        st.session_state[TRUE] = options[row]
        st.session_state[PREDICTED] = ANY if column == "true" else options[int(column)]
