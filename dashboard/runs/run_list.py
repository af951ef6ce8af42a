"""The list of runs on the Runs page, one of which is chosen, and the jobs on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from zlib import crc32

import streamlit as st

from turnover.dashboard.runs.list_view import RunRow, run_rows, run_table
from turnover.dashboard.shared.address import set_in_address
from turnover.dashboard.shared.jobs import show_jobs
from turnover.dashboard.state import NEXT_RUN, RUN_KEY, runs_folder
from turnover.jobs import Job, State, find_jobs

VIEW = "view"
CURVES, TRUST, DETAILS, COMPARE, NEW = "Curves", "Trust", "Details", "Before and after", "New run"
VIEWS = (CURVES, TRUST, DETAILS, COMPARE, NEW)
TRAINING = "training"
"""Widget that holds the name of a run in training whose curves are shown."""
RUN_IN_SIDEBAR = "The chosen run"

_COLUMNS = {
    "Run": st.column_config.TextColumn(width=160),
    "Data": st.column_config.TextColumn(width="medium"),
    "Items": st.column_config.TextColumn(help="Training + validation items", width=140),
    "Right": st.column_config.NumberColumn(
        "Right", help="Accuracy on the validation items", format="%.1f %%", width=70
    ),
    "Errors": st.column_config.TextColumn(
        help="Validation items that the model gets wrong", width=130
    ),
    "Trained": st.column_config.DatetimeColumn(format="distance", width=110),
    "Now": st.column_config.TextColumn(width=120),
}
_MOST = 7
"""Rows of the table that are in sight."""


def show_list() -> bool:
    """The runs as a table; a click or an arrow key chooses one, and a run in training opens its
    curves. Returns whether there are any.
    """
    rows = run_rows(runs_folder(), find_jobs(runs_folder()))
    if not rows:
        return False
    shown = st.session_state.get(TRAINING, st.query_params.get(TRAINING))
    chosen = (True, shown) if _is_training(rows, shown) else (False, st.session_state.get(RUN_KEY))
    places = [place for place, row in enumerate(rows) if (row.training, row.name) == chosen]
    # another list is another table, or the browser would choose what stands in the old one's place
    table = f"runs-table-{crc32(repr([row.name for row in rows]).encode())}"
    st.session_state[table] = {
        "selection": {"rows": places, "columns": [], "cells": [(place, "Run") for place in places]}
    }
    with st.container(key="run-list"):
        st.dataframe(
            run_table(rows),
            key=table,
            on_select=partial(_pick, table, rows),
            selection_mode=("single-row", "single-cell"),
            column_config=_COLUMNS,
            hide_index=True,
            lazy=False,
            placeholder="",
            height="content" if len(rows) <= _MOST else 36 * (_MOST + 1),
            alt="The runs; choosing one shows it below",
        )
    return True


def _is_training(rows: Sequence[RunRow], name: str | None) -> bool:
    return any(row.training and row.name == name for row in rows)


def _pick(table: str, rows: Sequence[RunRow]) -> None:
    selection = st.session_state[table]["selection"]
    places = [cell[0] for cell in selection["cells"]] or selection["rows"]
    if not places or places[0] >= len(rows):
        return
    row = rows[places[0]]
    if st.session_state.get(VIEW) == NEW or row.training:
        st.session_state[VIEW] = CURVES
    set_in_address(TRAINING, row.name if row.training else RUN_IN_SIDEBAR)
    if not row.training and st.session_state.get(RUN_KEY) != row.name:
        st.session_state[NEXT_RUN] = row.name


def show_work() -> None:
    """The jobs of all runs, newest first: those that are not done, but for what waits at low
    priority, and the last one if it trained a run; others on demand.
    """
    if not find_jobs(runs_folder()):
        return
    show_jobs(_open_jobs)
    if done := _done_jobs():
        with st.expander(f"Earlier jobs ({len(done)})"):
            show_jobs(_done_jobs)


def _open_jobs() -> list[Job]:
    jobs = [job for job in find_jobs(runs_folder()) if not (job.low and job.state is State.QUEUED)]
    return [job for job in jobs if job.state is not State.DONE or _is_new_run(job, jobs)]


def _done_jobs() -> list[Job]:
    jobs = find_jobs(runs_folder())
    return [job for job in jobs if job.state is State.DONE and not _is_new_run(job, jobs)]


def _is_new_run(job: Job, jobs: Sequence[Job]) -> bool:
    return job.steps[0][0] == "train" and job.id == jobs[0].id
