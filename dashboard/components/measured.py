"""What was measured of a run: the choice of a measure, its picture and its numbers; and what is said where there is nothing."""

from __future__ import annotations

import streamlit as st

from turnover.commands.evaluate import MEASURES
from turnover.dashboard.components.measured_figure import key_list, measured_figure
from turnover.dashboard.components.notice import heading, notice, problem, quiet
from turnover.dashboard.views.measured import Measured, build_measured, in_order
from turnover.fidelity.results import Results
from turnover.report.fragments import safe
from turnover.runs import Run

KEY = "measure"


def show_measured(run: Run, results: Results) -> None:
    """The pictures of a run, one at a time; results that cannot be read are named, and hide no other."""
    for text in results.problems:
        problem("A result cannot be shown", text)
    if found := in_order(results.found):
        names = [result.name for result in found]
        # what is chosen of one run may not be measured in another: then the first is shown
        if st.session_state.get(KEY) not in (None, *names):
            st.session_state[KEY] = names[0]
        chosen = st.segmented_control("Measure", names, default=names[0], required=True, key=KEY, bind="query-params")
        _show(build_measured(next(result for result in found if result.name == (chosen or names[0])), str(run.folder)))
    elif not results.problems:
        words = "How far these influences predict retraining, and how other methods do, takes some minutes to measure. For a start, then reload this page:"
        notice("Nothing is measured yet", words, f"turnover evaluate --run {run.folder} --measure lds")
    missing = {name: what for name, what in MEASURES.items() if name not in {result.measure for result in results.found}}
    if missing:
        lines = "".join(f"<li><code>--measure {name}</code> {safe(what)}?</li>" for name, what in missing.items())
        st.html(f'<details class="to-more"><summary>What else can be measured</summary><ul class="to-words">{lines}</ul></details>')


def _show(measured: Measured) -> None:
    heading(measured.question, measured.setting)
    if measured.stale:
        notice("These numbers are out of date", f"{measured.stale} Measure again, then reload this page:", measured.command)
    if not measured.points:
        notice("No method gave a number", "The notes in the table below say why.")
    else:
        st.plotly_chart(measured_figure(measured), width="stretch", alt=measured.alt, config={"displaylogo": False, "displayModeBar": False})
        key_list(measured)
        quiet(
            "Bars are 95 % intervals. Seconds are on a scale of tens: training (all members, or the model that another method explains, where it needs one) "
            "and estimating, together; the table has them one by one."
        )
    st.dataframe(
        measured.table,
        column_config={name: st.column_config.NumberColumn(format="%.3f") for name in measured.table.select_dtypes("float").columns}
        | {name: st.column_config.NumberColumn(format="%.1f") for name in measured.table.columns if name.endswith(", s")}
        | {"No.": st.column_config.NumberColumn(width=48, format="%d"), "Method": st.column_config.TextColumn(width=280)},
        hide_index=True,
        width="stretch",
        height="content",
        lazy=False,
        alt=f"{measured.figure} and other figures of every method, with seconds",
    )
