"""What goes, what that is predicted to do, and adopting it as flags."""

from __future__ import annotations

import streamlit as st

from turnover.cleansing.scores import Scores
from turnover.dashboard.components.cleanse_figure import scores_figure
from turnover.dashboard.components.notice import heading, problem, quiet, said
from turnover.dashboard.views.cleanse import LISTED, Plan, adoption_note, build_adoption, build_plan
from turnover.errors import TurnoverError
from turnover.flags import Flag, Flags
from turnover.runs import Run

_DONE = "cleanse-adopted"
_TRUST_PAGE = "app_pages/trust.py"


def show_plan(run: Run, scores: Scores, fraction: float, validation: str, flags: dict[int, Flag]) -> bool:
    """The removal as it would be; returns whether there is one."""
    try:
        plan = build_plan(run, scores, fraction, flags)
    except TurnoverError as error:
        problem("Nothing can be removed so", str(error))
        return False
    st.plotly_chart(scores_figure(plan), width="stretch", alt=plan.alt, config={"displaylogo": False, "displayModeBar": False})
    said(plan.summary)
    said(plan.effect)
    quiet(plan.caution)
    st.page_link(_TRUST_PAGE, label="How far to trust this run")
    only = f"; the first {LISTED:,} are listed" if len(plan.positions) > LISTED else ""
    heading("What goes", f"The most harmful first{only}. Influence on the loss of the true labels, in nats ± standard error.")
    st.dataframe(
        plan.table,
        column_config={
            "Influence": st.column_config.NumberColumn(format="%.3f"),
            "±": st.column_config.NumberColumn(format="%.3f"),
            "Image": st.column_config.ImageColumn(width="small"),
            "Text": st.column_config.TextColumn(width="large"),
        },
        hide_index=True,
        height="content" if len(plan.table) <= 8 else 320,
        lazy=False,
        alt="The training items that go",
    )
    with st.expander("By class"):
        share = {"Share": st.column_config.NumberColumn(format="percent")}
        st.dataframe(plan.classes, column_config=share, hide_index=True, lazy=False, alt="How many items of each class there are and go")
    _adopt(run, plan, flags, adoption_note(fraction, validation))
    return True


def _adopt(run: Run, plan: Plan, flags: dict[int, Flag], note: str) -> None:
    """A button that asks once more before it stores anything."""
    adoption, stored = build_adoption(plan, flags), st.session_state.pop(_DONE, "")
    with st.popover("Adopt the removal as flags"):
        said(adoption.sentence)
        label, new = f"Flag {len(adoption.positions):,} to drop", adoption.positions
        st.button(label, key="cleanse-adopt", on_click=_store, args=(run, new, note), disabled=not new)
    if stored:
        said(stored)


def _store(run: Run, positions: tuple[int, ...], note: str) -> None:
    try:
        store = Flags(run.folder)
        undecided = [position for position in positions if position not in store.current()]  # somebody may have decided meanwhile
        store.put_many(undecided, "drop", note=note)
        st.session_state[_DONE] = f"{len(undecided):,} training items were flagged to drop."
    except TurnoverError as error:
        st.session_state[_DONE] = f"Nothing was stored: {error}"
