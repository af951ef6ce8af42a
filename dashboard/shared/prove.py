"""Prove it: a job that trains again without some training items, and how it goes."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from turnover.dashboard.shared.jobs import begin_job, show_jobs
from turnover.dashboard.shared.jobs_view import jobs_with, time_left
from turnover.dashboard.state import runs_folder
from turnover.errors import TurnoverError
from turnover.jobs import Job, State, find_jobs, start_job
from turnover.runs.proofs import Proof, read_proofs, seconds_to_prove
from turnover.runs.run import Run

HELP = "Trains again without these training items, and without as many random ones."


def prove_button(run: Run, error: str, name: str, options: Sequence[str], key: str) -> None:
    """A button that begins to prove that the training items that `options` of `turnover prove` name
    taught an error.
    """
    time = seconds_words(run, read_proofs(run)[0]) or "by retraining"
    if st.button(f"{name} ({time})", key=key, help=HELP):
        begin_job(_step(run, error, options), _label(error))


def begin_proof(run: Run, position: int) -> str:
    """Begin to prove the cause of an error, unless that is under way; returns why it cannot, or
    "".
    """
    if run.untrainable:
        return run.untrainable
    error = str(run.item("validation", position)["id"])
    if any(job.state.active and errors_of([job]) == {error} for job in proving(run)):
        return ""
    try:
        start_job(runs_folder(), [_step(run, error)], _label(error))
    except TurnoverError as problem:
        return str(problem)
    return ""


def seconds_words(run: Run, proofs: Sequence[Proof]) -> str:
    """How long a proof will take, in words, by the run's proofs; "" if unknown."""
    seconds = seconds_to_prove(run, proofs)
    return "" if seconds is None else f"≈ {time_left(seconds)}"


def proving(run: Run) -> list[Job]:
    """The proofs of a run that are under way, or stopped before their end; newest first."""
    jobs = jobs_with(find_jobs(runs_folder()), "prove", run.folder)
    return [job for job in jobs if job.state is not State.DONE]


def errors_of(jobs: Sequence[Job]) -> set[str]:
    """The ids of the errors that are being proved."""
    steps = [job.steps[0] for job in jobs if job.state.active]
    return {step[step.index("--error") + 1] for step in steps if "--error" in step[:-1]}


def show_proving(run: Run) -> None:
    """Draw these, while there are any."""
    if proving(run):
        show_jobs(lambda: proving(run))


def _step(run: Run, error: str, options: Sequence[str] = ()) -> list[str]:
    return ["prove", "--run", str(run.folder), "--error", error, *options]


def _label(error: str) -> str:
    return f"Prove who taught {error}"
