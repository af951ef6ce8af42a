"""The Curves tab of the Runs page: the losses of a run, or of one in training as it goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from turnover.dashboard.runs.curves_view import (
    HOW_TO_READ,
    Curves,
    Leak,
    Series,
    build_curves,
    build_partial,
    leak_sentence,
    leaks,
    training_sentence,
)
from turnover.dashboard.runs.list_view import trainings
from turnover.dashboard.runs.run_list import RUN_IN_SIDEBAR, TRAINING
from turnover.dashboard.shared.notice import chart, notice, problem, quiet, said, what_is_missing
from turnover.dashboard.state import NEXT_RUN, RUN_KEY, current_run, runs_folder
from turnover.errors import TurnoverError
from turnover.jobs import find_jobs
from turnover.runs.partial import SUFFIX, read_partial

if TYPE_CHECKING:
    import plotly.graph_objects as go

_SECONDS = 2.0

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


def losses_figure(
    epochs: Sequence[int], series: Sequence[Series], kept: int | None, height: int = 400
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
            hovertemplate=f"%{{y:.3f}} ({line.what})",
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
        yaxis={"title": "Loss", "rangemode": "tozero"},
    )
    return figure


def show_curves() -> None:
    """The curves of the chosen run, or of one in training."""
    if name := _choose_training():
        st.fragment(_training, run_every=_SECONDS)(runs_folder(), name)
        return
    run = current_run().run
    curves = build_curves(run)
    if run.scored:
        said(curves.accuracy)
        what_is_missing(run)
        return
    found = leaks(curves, run.array("item_losses")[1], len(run.validation))
    _draw(curves, found, list(map(str, run.manifest.get("leaks", []))))


def _choose_training() -> str:
    """The name of a run in training, or "" for the chosen run; draws nothing if none is in
    training.
    """
    names = trainings(runs_folder(), find_jobs(runs_folder()))
    watched = st.session_state.get(TRAINING)
    if watched and watched not in names and (runs_folder() / watched).exists():
        del st.session_state[TRAINING]
        _follow(watched)
    if not names:
        return ""
    options = [RUN_IN_SIDEBAR, *names] if st.session_state.get(RUN_KEY) else names
    if st.session_state.get(TRAINING) not in (None, *options):
        st.session_state[TRAINING] = options[0]
    name = st.selectbox("Curves of", options, key=TRAINING, bind="query-params", width=320)
    return "" if name == RUN_IN_SIDEBAR else name


def _follow(name: str) -> None:
    """Choose the run that a training became."""
    st.session_state[NEXT_RUN] = name
    st.rerun()


def _training(folder: Path, name: str) -> None:
    """A training so far, until its run is complete."""
    if (folder / name).exists():
        _follow(name)
    if not (folder / f"{name}{SUFFIX}").exists():
        quiet("It has not begun yet.")
        return
    try:
        partial = read_partial(folder, name)
    except TurnoverError as error:
        problem("This training cannot be shown", str(error))
        return
    quiet(training_sentence(partial, time.time()))
    if curves := build_partial(partial):
        _draw(curves, leaks(curves, partial.flipped, partial.validation_size), [])


def _draw(curves: Curves, found: tuple[Leak, ...], shared: list[str]) -> None:
    said(curves.accuracy)
    if found:
        notice("Training items leak into halves that should not know them", "")
        quiet(leak_sentence(found, shared))
    chart(losses_figure(curves.epochs, curves.series, curves.kept), curves.alt)
    quiet(HOW_TO_READ)
