"""The Trust page: the verdict, the numbers, the trust words, and the measures of the run.

A measure is plotted as quality against seconds, a numbered point for each method, and listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from turnover.dashboard.runs.measured_view import OURS, Measured, Point, build_measured, in_order
from turnover.dashboard.runs.trust_view import Trust
from turnover.dashboard.shared.notice import chart, heading, notice, problem, quiet
from turnover.explain.html import safe
from turnover.research.evaluate.results import MEASURES, Results
from turnover.runs.run import Run

if TYPE_CHECKING:
    import plotly.graph_objects as go


def show_trust(trust: Trust) -> None:
    """The sentence in large print, and the numbers behind it."""
    verdict(trust.sentence, trust.readable)
    with st.grid(4, min_column_width=150):
        for number in trust.numbers:
            st.metric(number.name, number.value, border=True, help=number.help)


def verdict(sentence: str, good: bool) -> None:
    """A sentence in large print, with a coloured rule beside it: good or bad."""
    st.html(f'<p class="to-verdict {"" if good else "to-doubt"}">{safe(sentence)}</p>')


def show_words(trust: Trust) -> None:
    """The trust words in plain English, and the checks of them."""
    heading("What the words on the cards mean here")
    items = "".join(
        f"<dt>{safe(word.word)}</dt><dd>{safe(word.meaning)}"
        f"{f' <em>{safe(word.here)}</em>' if word.here else ''}</dd>"
        for word in trust.words
    )
    st.html(f'<dl class="to-words">{items}</dl>')
    quiet(*trust.checked)


# The plot of a measure

_LOOKS = (
    (True, "turn-over dropout", "circle", "#2f74ad"),
    (False, "other methods", "square", "#b0591c"),
)
"""Turn-over methods and others: mid-tones with contrast 3:1 on the light and the dark page."""

_NEAR = 0.06
_SIDES = ("middle right", "middle left", "top center", "bottom center")


def measured_figure(measured: Measured) -> go.Figure:
    """A marker for every method with its 95 % interval, distinguished by shape and number as well
    as by colour; the axis of seconds is logarithmic.
    """
    import plotly.graph_objects as go

    figure, sides = go.Figure(), _sides(measured.points)
    for ours, name, symbol, colour in _LOOKS:
        points = [point for point in measured.points if (point.kind == OURS) is ours]
        figure.add_scatter(name=name, **_markers(points, sides, symbol, colour))
    levels = (
        (measured.ceiling, "dash", "the most that can be reached"),
        (measured.chance, "dot", "chance"),
    )
    for level, dash, words in levels:
        if level is not None:
            line = {"dash": dash, "width": 1.5, "color": "gray"}
            figure.add_hline(
                level, line=line, annotation_text=words, annotation_position="bottom left"
            )
    seconds = {"title": "Seconds for training and estimating", "type": "log", "dtick": 1}
    figure.update_layout(
        height=460,
        margin={"l": 0, "r": 0, "t": 48, "b": 0},
        legend={"orientation": "h", "y": 1.12, "x": 0, "title": None},
        hovermode="closest",
        xaxis=seconds | {"zeroline": False},
        yaxis={"title": safe(measured.axis), "zeroline": False},
    )
    return figure


def _markers(
    points: Sequence[Point], sides: Mapping[int, str], symbol: str, colour: str
) -> dict[str, Any]:
    """A trace of numbered markers with their intervals; that of the method that pages show is
    larger and has a ring.
    """
    bounds = [(point.value, point.low, point.high) for point in points]
    values, low, high = np.array(bounds, float).reshape(-1, 3).T
    interval = {"array": np.nan_to_num(high - values), "arrayminus": np.nan_to_num(values - low)}
    ring = {"width": [3 if point.shown else 0 for point in points], "color": "#8cc4f5"}
    size = [15 if point.shown else 10 for point in points]
    return {
        "mode": "markers+text",
        "x": [point.x for point in points],
        "y": values,
        "text": [
            f"<b>{point.number}</b>" if point.shown else str(point.number) for point in points
        ],
        "textposition": [sides[point.number] for point in points],
        "textfont": {"size": 13},
        "cliponaxis": False,
        "marker": {"symbol": symbol, "size": size, "color": colour, "line": ring},
        "error_y": {"type": "data", "symmetric": False, "thickness": 1.3, "width": 3, **interval},
        "hovertext": [_hover(point) for point in points],
        "hoverinfo": "text",
    }


def key_list(measured: Measured) -> None:
    """The methods by their numbers, best first, each with its marker, its value and its seconds."""
    lines = []
    for point in measured.points:
        shape = "circle" if point.kind == OURS else "square"
        shown = " <strong>shown on the pages</strong>" if point.shown else ""
        lines.append(
            f'<li value="{point.number}"><span class="to-method"><i class="to-{shape}" '
            f'aria-hidden="true"></i><span>{safe(point.method)}{shown}</span></span><span '
            f'class="to-percent">{point.value:.3f} · {_seconds(point)}</span></li>'
        )
    st.html(f'<ol class="to-key">{"".join(lines)}</ol>')


def _seconds(point: Point) -> str:
    total = point.training + point.estimating
    return f"{total:.0f} s" if total >= 10 else f"{total:.1f} s" if total >= 0.05 else "&lt; 0.1 s"


def _hover(point: Point) -> str:
    bounds = "" if point.low is None else f" [{point.low:.3f}, {point.high:.3f}]"
    return (
        f"{point.number} {safe(point.method)}<br>{point.value:.3f}{bounds}<br>training "
        f"{point.training:.1f} s, estimating {point.estimating:.1f} s"
    )


def _sides(points: tuple[Point, ...]) -> dict[int, str]:
    """The side of its marker on which each number stands: not that of a nearby number."""
    if not points:
        return {}
    values = [point.value for point in points]
    height = (max(values) - min(values)) or 1.0
    sides: dict[int, str] = {}
    for index, point in enumerate(points):
        near = [
            neighbour
            for neighbour in points[:index]
            if abs(neighbour.value - point.value) < _NEAR * height
            and 0.5 < neighbour.x / point.x < 2
        ]
        taken = {sides[neighbour.number] for neighbour in near}
        sides[point.number] = next((side for side in _SIDES if side not in taken), _SIDES[0])
    return sides


# The choice of a measure

KEY = "measure"


def show_measured(run: Run, results: Results) -> None:
    """The measures of a run, one at a time; unreadable results are named, and hide no other."""
    for text in results.problems:
        problem("A result cannot be shown", text)
    if ordered := in_order(results.found):
        names = [result.name for result in ordered]
        # what is chosen of one run may not be measured in another: then the first is shown
        if st.session_state.get(KEY) not in (None, *names):
            st.session_state[KEY] = names[0]
        chosen = st.segmented_control(
            "Measure", names, default=names[0], required=True, key=KEY, bind="query-params"
        )
        result = ordered[names.index(chosen or names[0])]
        _show(build_measured(result, str(run.folder)))
    elif not results.problems:
        words = (
            "How far these influences predict retraining, and how other methods do, takes some "
            "minutes to measure. For a start, then reload this page:"
        )
        notice(
            "Nothing is measured yet", words, f"turnover evaluate --run {run.folder} --measure lds"
        )
    measured = {result.measure for result in results.found}
    lines = "".join(
        f"<li><code>--measure {name}</code> {safe(what)}?</li>"
        for name, what in MEASURES.items()
        if name not in measured
    )
    if lines:
        st.html(
            '<details class="to-more"><summary>What else can be measured</summary><ul '
            f'class="to-words">{lines}</ul></details>'
        )


def _show(measured: Measured) -> None:
    heading(measured.question, measured.setting)
    if measured.stale:
        notice(
            "These numbers are out of date",
            f"{measured.stale} Measure again, then reload this page:",
            measured.command,
        )
    if not measured.points:
        notice("No method gave a number", "The notes in the table below say why.")
    else:
        chart(measured_figure(measured), measured.alt)
        key_list(measured)
        quiet(
            "Bars are 95 % intervals. Seconds are on a scale of tens: training (all members, or the"
            " model that another method explains, where it needs one) and estimating, together; the"
            " table has them one by one."
        )
    columns: dict[str, Any] = {
        name: st.column_config.NumberColumn(format="%.1f" if name.endswith(", s") else "%.3f")
        for name in measured.table.select_dtypes("number").columns
    }
    columns["No."] = st.column_config.NumberColumn(width=48, format="%d")
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
