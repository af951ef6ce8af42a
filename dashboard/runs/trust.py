"""The Trust tab of the Runs page: the verdict, a button that measures, and on demand each measure.

A measure is plotted, a point for each method, and listed with the seconds that each one takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from turnover.dashboard.runs.measured_view import (
    BASELINE,
    OURS,
    Measured,
    Point,
    build_measured,
    in_order,
)
from turnover.dashboard.runs.trust_view import FOREIGN, build_trust, open_measures, time_to_measure
from turnover.dashboard.shared.jobs import begin_job
from turnover.dashboard.shared.jobs_view import jobs_with
from turnover.dashboard.shared.notice import chart, heading, no_influence, notice, problem, quiet
from turnover.dashboard.state import current_run, runs_folder
from turnover.explain.html import safe
from turnover.explain.words import snippet
from turnover.jobs import find_jobs
from turnover.research.evaluate.results import MEASURES, Results, read_results
from turnover.runs.run import Run

if TYPE_CHECKING:
    import plotly.graph_objects as go

_ASKED = "measure-asked"


def show_trust() -> None:
    """The sentence in large print, what was measured, and the button."""
    opened = current_run()
    run = opened.run
    if opened.certainty is None:
        no_influence(run, opened.influence_problem)
        return
    results = read_results(run)
    trust = build_trust(opened.certainty, results)
    doubt = "" if trust.readable else "to-doubt"
    sentence = FOREIGN if run.scored else trust.sentence
    st.html(f'<p class="to-verdict {doubt}">{safe(sentence)}</p>')
    if trust.checked:
        quiet(*trust.checked)
    for text in results.problems:
        problem("A result cannot be shown", text)
    jobs = jobs_with(find_jobs(runs_folder()), "evaluate", run.folder)
    if asked := [job.steps[0][-1] for job in jobs if job.state.active]:
        quiet(f"Being measured ({', '.join(asked)}). This page need not stay open.")
    else:
        _ask_to_measure(run, open_measures(run, results))
    if results.found:
        with st.expander(
            "What was measured, and how other methods do", expanded=KEY in st.query_params
        ):
            _show_measured(results)


def _ask_to_measure(run: Run, measures: tuple[str, ...]) -> None:
    """A choice of what to measure, the button, and how long it takes."""
    questions = {f"{MEASURES[name][:1].upper()}{MEASURES[name][1:]}?": name for name in measures}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        asked = st.selectbox("Measure it", list(questions), key=_ASKED, width=480)
        pressed = st.button("Measure", key="measure-start")
    measure = questions[asked]
    quiet(f"It takes {time_to_measure(run, measure)}, and goes on when this page is closed.")
    if pressed:
        step = ["evaluate", "--run", str(run.folder), "--measure", measure]
        begin_job(step, f"Measure {run.name}: {measure}")


# A measure

KEY = "measure"
_COLOURS = {OURS: "#2f74ad", BASELINE: "#b0591c"}
_SYMBOLS = {OURS: "circle", BASELINE: "square"}
"""Turn-over methods and others: mid-tones with contrast 3:1 on the light and the dark page."""


def measured_figure(measured: Measured) -> go.Figure:
    """A marker for every method with its 95 % interval, the best at the top; the one that pages
    show in bold.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for kind, colour in _COLOURS.items():
        points = [point for point in measured.points if point.kind == kind]
        bounds = np.array([(point.value, point.low, point.high) for point in points], float)
        values, low, high = bounds.reshape(-1, 3).T
        interval = {
            "array": np.nan_to_num(high - values),
            "arrayminus": np.nan_to_num(values - low),
        }
        figure.add_scatter(
            name=kind,
            mode="markers",
            x=values,
            y=[_named(point) for point in points],
            marker={"symbol": _SYMBOLS[kind], "size": 11, "color": colour},
            error_x={"type": "data", "symmetric": False, "thickness": 1.3, "width": 3, **interval},
            hovertemplate="%{x:.3f}",
        )
    levels = ((measured.ceiling, "dash", "the most possible"), (measured.chance, "dot", "chance"))
    for level, dash, words in levels:
        if level is not None:
            line = {"dash": dash, "width": 1.5, "color": "gray"}
            figure.add_vline(level, line=line, annotation_text=words)
    figure.update_layout(
        height=110 + 30 * len(measured.points),
        margin={"l": 0, "r": 0, "t": 48, "b": 0},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.06, "x": 0, "title": None},
        xaxis={"title": safe(measured.axis), "zeroline": False},
        yaxis={
            "categoryorder": "array",
            "categoryarray": [_named(point) for point in reversed(measured.points)],
            "automargin": True,
        },
    )
    return figure


def _named(point: Point) -> str:
    name = safe(snippet(point.method, 48))
    return f"<b>{name}</b>" if point.shown else name


def _show_measured(results: Results) -> None:
    """The measures of a run, one at a time."""
    ordered = in_order(results.found)
    names = [result.name for result in ordered]
    # what is chosen of one run may not be measured in another: then the first is shown
    if st.session_state.get(KEY) not in (None, *names):
        st.session_state[KEY] = names[0]
    chosen = st.segmented_control(
        "Measured", names, default=names[0], required=True, key=KEY, bind="query-params"
    )
    _show(build_measured(ordered[names.index(chosen or names[0])]))


def _show(measured: Measured) -> None:
    heading(measured.question, measured.setting)
    if measured.stale:
        notice("These numbers are out of date", f"{measured.stale} Measure again.")
    if not measured.points:
        notice("No method gave a number", "The notes in the table below say why.")
    else:
        chart(measured_figure(measured), measured.alt)
        quiet("Bars are 95 % intervals; what the pages show is in bold.")
    columns: dict[str, Any] = {
        name: st.column_config.NumberColumn(format="%.1f" if name.endswith(", s") else "%.3f")
        for name in measured.table.select_dtypes("number").columns
    }
    columns["Method"] = st.column_config.TextColumn(width=280)
    st.dataframe(
        measured.table,
        column_config=columns,
        hide_index=True,
        width="stretch",
        height="content",
        lazy=False,
        alt=f"{measured.figure} and other figures of every method, with seconds",
    )
