"""The Curves page: the figure, the numbers at one epoch, a leak, the largest gaps, and a training.

The epoch of the gaps is chosen by a click on the curves or by keyboard.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from turnover.dashboard.runs.curves_view import (
    HOW_TO_READ,
    Curves,
    Gap,
    Leak,
    Series,
    build_partial,
    largest_gaps,
    leak_sentence,
    leaks,
    training_sentence,
)
from turnover.dashboard.shared.notice import chart, heading, notice, problem, quiet, said
from turnover.dashboard.shared.runs_view import share_words
from turnover.dashboard.state import RUN_KEY, runs_folder
from turnover.errors import TurnoverError
from turnover.explain.html import chip_html, image_html, mark_html, safe
from turnover.runs.partial import find_partials, read_partial
from turnover.runs.run import Run

if TYPE_CHECKING:
    import plotly.graph_objects as go


_DASHES = {"masked": "solid", "flipped": "solid", "unowned": "dash", "validation": "dot"}
_SYMBOLS = {
    "masked": "circle",
    "flipped": "diamond",
    "unowned": "diamond-open",
    "validation": "square",
}
_COLOURS = {
    "masked": "#3b82bd",
    "flipped": "#cf6f2d",
    "unowned": "#8f70c4",
    "validation": "#4b9668",
}
"""Mid-tones with contrast 3:1 on the light and the dark page, since the theme is not known yet."""

_GAP = "rgba(207, 111, 45, .14)"


def curves_figure(curves: Curves, epoch: int | None = None) -> go.Figure:
    """The figure of a run's curves; a chosen epoch is marked beside the kept one."""
    figure = losses_figure(curves.epochs, curves.series, curves.kept)
    if epoch not in (None, curves.kept):
        figure.add_vline(
            x=epoch,
            line={"width": 1, "color": "gray"},
            annotation_text="chosen",
            annotation_position="top left",
        )
    return figure


def losses_figure(
    epochs: Sequence[int], series: Sequence[Series], kept: int | None, height: int = 440
) -> go.Figure:
    """One line per loss, distinguished by dash and marker as well as by colour. The gap between
    masked and flipped is shaded, and the kept epoch, if any, marked.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for line in series:
        figure.add_scatter(
            x=epochs,
            y=line.values,
            name=line.name,
            mode="lines+markers",
            line={"dash": _DASHES[line.column], "width": 2.5, "color": _COLOURS[line.column]},
            marker={"symbol": _SYMBOLS[line.column], "size": 8},
            fill="tonexty" if line.column == "flipped" else None,
            fillcolor=_GAP,
            unselected={"marker": {"opacity": 1}},
            hovertemplate="%{y:.3f}",
        )
    if kept is not None:
        figure.add_vline(
            x=kept,
            line={"dash": "dot", "width": 1.5, "color": "gray"},
            annotation_text="kept",
            annotation_position="top right",
        )
    figure.update_layout(
        height=height,
        margin={"l": 0, "r": 0, "t": 48, "b": 0},
        legend={
            "orientation": "h",
            "y": 1 + 62 / height,
            "x": 0,
            "title": None,
            "traceorder": "normal",
        },
        hovermode="x unified",
        xaxis={"title": "Epoch", "dtick": max(1, len(epochs) // 12), "zeroline": False},
        yaxis={"title": "Loss (nats)", "rangemode": "tozero"},
    )
    return figure


# The largest gaps at an epoch

EPOCH, _CHART = "epoch", "curves-chart"


@st.fragment
def explore_gaps(run: Run, curves: Curves) -> None:
    """The figure, which can be clicked, and the items at the chosen epoch."""
    above = st.container()
    heading(
        "Items with the largest gap",
        "Training items that the model only knows because it learned them; wrong labels are often "
        "among them.",
    )
    epoch = _choose_epoch(curves)
    with above:
        draw_curves(curves, epoch)
    st.html(_table_html(largest_gaps(run, epoch)))


def draw_curves(curves: Curves, epoch: int | None = None) -> None:
    """The figure; with a chosen `epoch`, a click on a point chooses another."""
    choosing = {"key": _CHART, "on_select": _picked, "selection_mode": "points"}
    chart(curves_figure(curves, epoch), curves.alt, **({} if epoch is None else choosing))


def _choose_epoch(curves: Curves) -> int:
    """The epoch in the URL; the kept epoch if it names none of this run."""
    wanted = st.session_state.get(EPOCH, st.query_params.get(EPOCH))
    if str(wanted) not in map(str, curves.epochs):
        st.session_state[EPOCH] = str(curves.kept)
    return int(
        st.selectbox(
            "After epoch",
            [str(epoch) for epoch in curves.epochs],
            key=EPOCH,
            bind="query-params",
            width=140,
        )
    )


def _picked() -> None:
    points = st.session_state[_CHART]["selection"]["points"]
    if points:
        st.session_state[EPOCH] = str(int(points[0]["x"]))


def _table_html(gaps: tuple[Gap, ...]) -> str:
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("Training item", "Masked loss", "Flipped loss", "Gap")
    )
    rows = "".join(
        "<tr><th "
        f'scope="row">{_item_html(gap)}</th><td>{gap.masked:.3f}</td><td>{gap.flipped:.3f}</td><td><strong>{gap.value:.3f}</strong></td></tr>'
        for gap in gaps
    )
    return (
        '<table class="to-groups '
        f'to-numbers"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    )


def _item_html(gap: Gap) -> str:
    alt = f"training image labelled {gap.label}"
    body = (
        image_html(gap.image, 40, alt) if gap.image else f'<span dir="auto">{safe(gap.text)}</span>'
    )
    return (
        f'{chip_html(gap.label)} {body} <span class="to-id">{safe(gap.id)}</span> '
        f"{mark_html(gap.injected)}"
    )


# A training in progress, and the numbers

_CHOSEN = "The run in the sidebar"
_SECONDS = 2.0


def choose_training() -> str:
    """The name of a run in training to show, or "" for the chosen run; draws nothing if there is
    none.
    """
    names = find_partials(runs_folder())
    if not names:
        return ""
    options = [_CHOSEN, *names] if st.session_state.get(RUN_KEY) else names
    name = st.selectbox(
        "Curves of",
        options,
        key="training",
        bind="query-params",
        width=320,
        help="Or of a run that is being trained",
    )
    return "" if name == _CHOSEN else name


def show_training(name: str) -> None:
    """A training, refreshed every two seconds until its run is complete."""
    st.fragment(_training, run_every=_SECONDS)(runs_folder(), name)


def _training(folder: Path, name: str) -> None:
    if (folder / name).exists():
        st.rerun()
    try:
        partial = read_partial(folder, name)
    except TurnoverError as error:
        problem("This training cannot be shown", str(error))
        return
    quiet(training_sentence(partial, time.time()))
    curves = build_partial(partial)
    if curves is None:
        return
    show_numbers(curves)
    show_leak(leaks(curves, partial.flipped, partial.validation_size), [])
    draw_curves(curves)
    show_table(curves)


def show_numbers(curves: Curves) -> None:
    """Four numbers at the kept or last epoch."""
    with st.grid(4, min_column_width=150):
        st.metric("Validation accuracy", f"{curves.validation_accuracy:.1%}", border=True)
        st.metric(
            "Plain twin accuracy",
            share_words(curves.plain_accuracy, "unknown" if curves.kept else "not yet"),
            border=True,
        )
        st.metric("Flipped loss", f"{curves.flipped:.3f}", border=True)
        st.metric("Unowned loss", f"{curves.unowned:.3f}", border=True)
    when = "At the kept epoch" if curves.kept else "After the last epoch"
    quiet(f"{when}. The plain twin is the same network, trained alike without turn-over dropout.")


def run_leaks(run: Run, curves: Curves) -> tuple[Leak, ...]:
    """The leaks visible in the losses of a run."""
    return leaks(curves, run.array("item_losses")[1], len(run.validation))


def show_leak(epochs: tuple[Leak, ...], shared: list[str]) -> None:
    """A warning, if there is a leak."""
    if epochs:
        notice(
            "Training items leak into halves that should not know them",
            leak_sentence(epochs, shared),
        )


def show_table(curves: Curves) -> None:
    """How to read the figure, and its numbers."""
    heading("How to read this")
    said(HOW_TO_READ)
    heading(
        "The same as numbers",
        "Mean losses in nats; accuracy of the full network on the validation items.",
    )
    numbers = {
        name: st.column_config.NumberColumn(format="%.3f")
        for name in ("Masked", "Flipped", "Unowned", "Validation")
    }
    columns = {**numbers, "Accuracy": st.column_config.NumberColumn(format="percent")}
    st.dataframe(
        curves.table,
        column_config=columns,
        hide_index=True,
        width="stretch",
        height="content",
        alt="Losses and accuracy per epoch",
    )
