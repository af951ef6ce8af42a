"""The list of flags: filters, the table, and which flag is chosen; all of it in the URL, as for errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from turnover.dashboard.components.item_table import content_columns, contents, item_table
from turnover.dashboard.views.errors import ANY, Choice
from turnover.dashboard.views.flags import ANYBODY, DECISIONS, FlagQuery, people
from turnover.report.flagged import Flagged, verdict_words
from turnover.report.words import snippet

FLAG, PERSON = "flag", "person"


def flag_filters(classes: list[str], items: Sequence[Flagged]) -> FlagQuery:
    """The row of filters."""
    decision, label, person, search = st.columns([3, 3, 3, 5])
    known = [ANYBODY, *people(items)]
    if st.session_state.get(PERSON, ANYBODY) not in known:  # whose last flag was just taken back
        st.session_state[PERSON] = ANYBODY
    return FlagQuery(
        decision=decision.selectbox("Decision", list(DECISIONS), key="decision", bind="query-params"),
        label=label.selectbox("Class", [ANY, *classes], key="class", bind="query-params"),
        person=person.selectbox("Person", known, key=PERSON, bind="query-params"),
        search=search.text_input("Search", key="words", bind="query-params", type="search", live="300ms", placeholder="Words, an id or a note") or "",
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
    item_table("flags", FLAG, _frame(chosen.page, kind), chosen, columns, "Flagged training items; choosing one shows it with its note")


def _frame(items: Sequence[Flagged], kind: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            **contents(items, kind),
            "label": [item.label for item in items],
            "decision": [verdict_words(item.flag) for item in items],
            "by": [item.flag.by for item in items],
            "note": [snippet(item.flag.note) for item in items],
            "at": pd.to_datetime([item.flag.at for item in items], errors="coerce", format="ISO8601", utc=True).tz_localize(None),
            "id": [item.id for item in items],
        }
    )
