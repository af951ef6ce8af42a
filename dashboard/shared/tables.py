"""Tables of items, one of which is chosen: the list of flags.

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

from turnover.dashboard.shared.choice_view import ANY, Choice, NamedT, choice
from turnover.dashboard.shared.flags_view import ANYBODY, DECISIONS, FlagQuery, people
from turnover.explain.report import Flagged, verdict_words
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


# Flags

FLAG, PERSON = "flag", "person"


def flag_filters(classes: list[str], items: Sequence[Flagged]) -> FlagQuery:
    """The row of filters."""
    decision, label, person, search = st.columns([3, 3, 3, 5])
    known = [ANYBODY, *people(items)]
    if st.session_state.get(PERSON, ANYBODY) not in known:  # whose last flag was just taken back
        st.session_state[PERSON] = ANYBODY
    return FlagQuery(
        decision=decision.selectbox(
            "Decision", list(DECISIONS), key="decision", bind="query-params"
        ),
        label=label.selectbox("Class", [ANY, *classes], key="class", bind="query-params"),
        person=person.selectbox("Person", known, key=PERSON, bind="query-params"),
        search=search.text_input(
            "Search",
            key="words",
            bind="query-params",
            type="search",
            live="300ms",
            placeholder="Words, an id or a note",
        )
        or "",
    )


def flag_table(chosen: Choice[Flagged], kind: str) -> None:
    """A page of flags, the chosen one selected; a click or an arrow key chooses another."""
    columns: dict[str, Any] = {
        **content_columns(190),
        "label": st.column_config.TextColumn("Label", width=72),
        "decision": st.column_config.TextColumn("Decision", width=96),
        "by": st.column_config.TextColumn("By", width=80),
        "note": st.column_config.TextColumn("Note", width=120),
        "at": st.column_config.DatetimeColumn("At (UTC)", format="YYYY-MM-DD HH:mm"),
        "id": st.column_config.TextColumn("Id"),
    }
    item_table(
        "flags",
        FLAG,
        _flag_frame(chosen.page, kind),
        chosen,
        columns,
        "Flagged training items; choosing one shows it with its note",
    )


def _flag_frame(items: Sequence[Flagged], kind: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            **contents(items, kind),
            "label": [item.label for item in items],
            "decision": [verdict_words(item.flag) for item in items],
            "by": [item.flag.by for item in items],
            "note": [snippet(item.flag.note) for item in items],
            "at": (
                pd.to_datetime(
                    [item.flag.at for item in items], errors="coerce", format="ISO8601", utc=True
                ).tz_localize(None)
            ),
            "id": [item.id for item in items],
        }
    )
