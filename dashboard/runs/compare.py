"""*Before and after* on the Runs page: the chosen run beside an earlier one."""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st

from turnover.dashboard.runs.compare_view import ErrorRow, Side, build_compared
from turnover.dashboard.shared.notice import notice, quiet, said
from turnover.dashboard.shared.runs_view import run_names
from turnover.dashboard.state import RUN_KEY, current_run, open_run, runs_folder
from turnover.errors import TurnoverError
from turnover.explain.html import chip_html, image_html, safe

BEFORE = "before"
_FEW, _MOST = 8, 200
_IMAGE = 40


def show_comparison() -> None:
    """The choice of the run before, the verdict, and three lists of errors that lead to each."""
    after = current_run().run
    others = [name for name in run_names(runs_folder()) if name != after.name]
    if not others:
        notice(
            "There is only one run",
            "Train a second one on other training items and the same validation file, such as the "
            "cleansed ones; then its errors stand here beside these.",
        )
        return
    if st.session_state.get(BEFORE) not in (None, *others):
        st.session_state[BEFORE] = others[0]
    name = st.selectbox("Before", others, key=BEFORE, bind="query-params", width=320)
    try:
        compared = build_compared(open_run(runs_folder() / name).run, after)
    except TurnoverError as error:
        quiet(str(error))
        return
    doubt = "" if compared.clear else "to-doubt"
    st.html(f'<p class="to-verdict {doubt}">{safe(compared.verdict)}</p>')
    said(compared.sentence)
    with st.grid(3, min_column_width=280):
        for side in compared.sides:
            with st.container():
                _show(side)


def _show(side: Side) -> None:
    """A list of errors; of many, most are folded away."""
    rows = [_row_html(side.run, row) for row in side.errors[:_MOST]]
    few, more = "".join(rows[:_FEW]), "".join(rows[_FEW:])
    rest = len(side.errors) - _FEW
    cut = f"<p>The first {_MOST} are shown.</p>" if len(side.errors) > _MOST else ""
    folded = (
        f"<details class='to-more'><summary>{rest:,} more</summary><ul>{more}</ul>{cut}</details>"
    )
    st.html(
        f'<div class="to-changed"><h3 class="to-side">{side.title} <span>{len(side.errors):,}'
        f"</span></h3><ul>{few}</ul>{folded if more else ''}</div>"
    )


def _row_html(run: str, row: ErrorRow) -> str:
    """An error with a link to where it is explained. It is one of the browser's own, since labels
    of Streamlit's are Markdown.
    """
    where = f"./?{urlencode({RUN_KEY: run, 'item': row.id})}"
    words = f"labelled {row.label}, model says {row.predicted}"
    body = (
        image_html(row.image, _IMAGE, f"{row.id}, {words}")
        if row.image
        else f'<span dir="auto">{safe(row.text)}</span>'
    )
    return (
        f'<li><a href="{safe(where)}" target="_self">{body}</a> '
        f"{chip_html(row.label)} → {chip_html(row.predicted, 'wrong')}</li>"
    )
