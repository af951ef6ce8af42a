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
        begin_job([*_command(run), "--error", error, *options], f"Prove who taught {error}")


def begin_proof(run: Run, errors: Sequence[int], item: int | None = None) -> str:
    """Begin to prove the causes of errors, or that one training item alone taught them, unless that
    is under way; returns why it cannot, or "".
    """
    if run.untrainable:
        return run.untrainable
    if is_proving(run, proof_steps(run), errors, item):
        return ""
    step = _step(run, errors, item)
    label = f"Prove who taught {step[4]}" if item is None else f"Prove what {step[-1]} taught"
    try:
        start_job(runs_folder(), [step], label)
    except TurnoverError as problem:
        return str(problem)
    return ""


def proof_steps(run: Run) -> list[list[str]]:
    """What is at work of that."""
    return [[*job.steps[0]] for job in proving(run) if job.state.active]


def is_proving(
    run: Run, steps: list[list[str]], errors: Sequence[int], item: int | None = None
) -> bool:
    """Whether that is among the `steps` at work."""
    return bool(steps) and _step(run, errors, item) in steps


def seconds_words(run: Run, proofs: Sequence[Proof]) -> str:
    """How long a proof will take, in words, by the run's proofs; "" if unknown."""
    seconds = seconds_to_prove(run, proofs)
    return "" if seconds is None else f"≈ {time_left(seconds)}"


def proving(run: Run) -> list[Job]:
    """The proofs of a run that are under way, or stopped before their end; newest first."""
    jobs = jobs_with(find_jobs(runs_folder()), "prove", run.folder)
    return [job for job in jobs if job.state is not State.DONE]


def show_proving(run: Run) -> None:
    """Draw these, while there are any."""
    if proving(run):
        show_jobs(lambda: proving(run))


def _command(run: Run) -> list[str]:
    return ["prove", "--run", str(run.folder)]


def _step(run: Run, errors: Sequence[int], item: int | None) -> list[str]:
    ids = [str(run.item("validation", error)["id"]) for error in errors]
    named = [] if item is None else ["--items", str(run.item("train", item)["id"])]
    return [*_command(run), *(word for id in ids for word in ("--error", id)), *named]
