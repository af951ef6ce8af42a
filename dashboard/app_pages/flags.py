"""Flags & export: decisions on training items, disputes, import and export."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.shared.flag_form import flags_of
from turnover.dashboard.shared.flags import (
    downloads,
    import_form,
    judged_download,
    show_disputes,
    show_flag,
    undo_bar,
)
from turnover.dashboard.shared.flags_view import disputes, select, summary
from turnover.dashboard.shared.notice import notice, problem, quiet
from turnover.dashboard.shared.tables import FLAG, choose_item, flag_filters, flag_table
from turnover.dashboard.state import Opened, current_run
from turnover.errors import TurnoverError
from turnover.explain.report import flagged_items


@st.fragment
def manage(opened: Opened) -> None:
    """All of the page; a click runs only this."""
    run = opened.run
    try:
        overview = flags_of(run).overview()
    except TurnoverError as error:
        problem("The flags cannot be read", str(error))
        return
    items = flagged_items(run, overview.flags)
    if items:
        quiet(summary(items))
    undo_bar(run, overview.last)
    judged_download(run)
    show_disputes(run, disputes(run, overview.conflicts))
    if not items:
        notice(
            "No training item is flagged yet",
            "Open Errors, choose a mistake, and flag the training items that should be dropped, "
            "relabelled or kept.",
        )
        import_form(run)
        return
    matching = select(items, flag_filters(run.classes, items))
    if matching:
        left, right = st.columns(2, gap="medium")
        with left:
            above = st.container()
            chosen = choose_item(matching, FLAG, "Flagged item")
            with above:
                quiet(
                    f"Flag {chosen.place + 1:,} of "
                    f"{len(matching):,}"
                    f"{f' that match, out of {len(items):,}' if len(matching) < len(items) else ''}"
                )
                flag_table(chosen, run.kind)
        with right:
            show_flag(run, chosen.item)
    else:
        notice(
            "No flag matches",
            "Clear the search, or choose another decision, class or person above.",
        )
    downloads(opened)
    import_form(run)


quiet(
    "What people decided on training items. Flags change nothing by themselves: export them, and "
    "apply them to the data set."
)
manage(current_run())
