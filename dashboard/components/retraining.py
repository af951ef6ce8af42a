"""Retraining after a cleansing: starting it, watching it, and what came out."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from turnover.cleansing.results import Cleansed, read_cleansings
from turnover.cleansing.scores import OWN, Scores
from turnover.dashboard.components.jobs import begin_job, show_jobs
from turnover.dashboard.components.notice import heading, notice, problem, quiet, said
from turnover.dashboard.components.numbers import whole_number
from turnover.dashboard.state import runs_folder
from turnover.dashboard.views.jobs import jobs_with
from turnover.dashboard.views.retrained import build_retrained, is_of
from turnover.flags import Flag
from turnover.jobs import Job, find_jobs
from turnover.runs import Run

KEY = "cleansing"


def ask_for_retraining(run: Run, scores: Scores, fraction: float, validation: str, flags: dict[int, Flag]) -> None:
    """How many seeds, whether with the flags, and the button."""
    heading("Does it help? Retrain and see", "Models without turn-over dropout, from the same seeds: on all items, without as many random ones, and cleansed.")
    if validation == OWN:
        quiet("Half of the validation items choose what goes, the other half measures; so what goes may differ a little from the list above.")
    decided = sum(flag.action != "keep" for flag in flags.values())
    with st.container(horizontal=True, vertical_alignment="bottom"):
        repeats = whole_number("Seeds", 1, 50, 4, key="repeats", bind="query-params", width=140)
        with_flags = st.checkbox(f"Also on your {decided:,} flags", key="with-flags", bind="query-params") if decided else False
        begin = st.button("Retrain", key="cleanse-retrain")
    if not decided:
        quiet("Flag training items to drop or to relabel, and a condition with your flags can be trained as well.")
    if begin:
        step = ["cleanse", "--run", str(run.folder), "--fraction", f"{fraction:.4g}", "--repeats", str(repeats), "--validation", validation]
        step += [] if validation == OWN else ["--path", scores.path]
        step += ["--flags"] if with_flags else []
        begin_job(step, f"Cleanse {run.name}: {fraction:.1%}, {repeats} seeds{', with flags' if '--flags' in step else ''}")


def show_retraining(run: Run) -> None:
    """The jobs on this run with what they have found so far, and the results that are kept."""

    def find() -> list[Job]:
        return jobs_with(find_jobs(runs_folder()), "cleanse", run.folder)

    if find():
        show_jobs(find, lambda: _so_far(run.folder))
    found, problems = read_cleansings(run)
    for text in problems:
        problem("A result cannot be shown", text)
    finished = [one for one in found if one.finished]
    if finished:
        names = [one.name for one in finished]
        if st.session_state.get(KEY) not in (None, *names):
            st.session_state[KEY] = names[0]
        chosen = st.selectbox("Result", names, key=KEY, bind="query-params", width=320) if len(names) > 1 else names[0]
        _show(next(one for one in finished if one.name == chosen))


def _so_far(folder: Path) -> None:
    """The models that are trained, while others still are."""
    at_work = [job.steps[0] for job in jobs_with(find_jobs(runs_folder()), "cleanse", folder) if job.state.active]
    partial = [one for one in read_cleansings(Run(folder))[0] if not one.finished and any(is_of(one, step) for step in at_work)]
    if partial:
        quiet("So far:")
        _table(partial[0])


def _show(cleansed: Cleansed) -> None:
    view = build_retrained(cleansed)
    heading("What retraining came to", view.setting)
    if view.stale:
        notice("These numbers are out of date", f"{view.stale} Retrain to know what is so now.")
    for sentence in view.sentences:
        said(sentence)
    _table(cleansed)
    quiet("± standard deviation over seeds. Differences are paired by seed, with a 95 % interval and p of a paired t-test.")


def _table(cleansed: Cleansed) -> None:
    frame = build_retrained(cleansed).table
    st.dataframe(frame, hide_index=True, height="content", lazy=False, alt="Accuracy and loss of each condition")
