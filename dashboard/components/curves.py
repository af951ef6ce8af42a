"""The Curves page's pieces: whose curves, the numbers at one epoch, a leak, all numbers, and a training that goes on."""

from __future__ import annotations

import time
from pathlib import Path

import streamlit as st

from turnover.dashboard.components.gaps import draw_curves
from turnover.dashboard.components.notice import heading, notice, problem, quiet, said
from turnover.dashboard.state import RUN_KEY, runs_folder
from turnover.dashboard.views.curves import HOW_TO_READ, Curves, Leak, build_partial, leak_sentence, leaks, training_sentence
from turnover.dashboard.views.runs import share_words
from turnover.errors import TurnoverError
from turnover.partial import find_partials, read_partial
from turnover.runs import Run

_CHOSEN = "The run in the sidebar"
_SECONDS = 2.0


def choose_training() -> str:
    """The name of a run that is being trained, if the page shall show one; "" for the chosen run. Without any, nothing is asked."""
    names = find_partials(runs_folder())
    if not names:
        return ""
    options = [_CHOSEN, *names] if st.session_state.get(RUN_KEY) else names
    name = st.selectbox("Curves of", options, key="training", bind="query-params", width=320, help="Or of a run that is being trained")
    return "" if name == _CHOSEN else name


def show_training(name: str) -> None:
    """A training, looked at again every two seconds until its run is whole."""
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
        st.metric("Plain twin accuracy", share_words(curves.plain_accuracy, "unknown" if curves.kept else "not yet"), border=True)
        st.metric("Flipped loss", f"{curves.flipped:.3f}", border=True)
        st.metric("Unowned loss", f"{curves.unowned:.3f}", border=True)
    when = "At the kept epoch" if curves.kept else "After the last epoch"
    quiet(f"{when}. The plain twin is the same network, trained alike without turn-over dropout.")


def run_leaks(run: Run, curves: Curves) -> tuple[Leak, ...]:
    """The leaks that a run's losses tell of."""
    return leaks(curves, run.array("item_losses")[1], len(run.validation))


def show_leak(found: tuple[Leak, ...], shared: list[str]) -> None:
    """A warning, if there is a leak."""
    if found:
        notice("Training items leak into halves that should not know them", leak_sentence(found, shared))


def show_table(curves: Curves) -> None:
    """How to read the figure, and its numbers."""
    heading("How to read this")
    said(HOW_TO_READ)
    heading("The same as numbers", "Mean losses in nats; accuracy of the full network on the validation items.")
    numbers = {name: st.column_config.NumberColumn(format="%.3f") for name in ("Masked", "Flipped", "Unowned", "Validation")}
    columns = {**numbers, "Accuracy": st.column_config.NumberColumn(format="percent")}
    st.dataframe(curves.table, column_config=columns, hide_index=True, width="stretch", height="content", alt="Losses and accuracy per epoch")
