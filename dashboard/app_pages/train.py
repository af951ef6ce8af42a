"""Train: a new run from data and a model, as a job that continues when the page is closed."""

from __future__ import annotations

from turnover.dashboard.runs.train_form import ask_for_training, start_or_check
from turnover.dashboard.shared.jobs import show_jobs
from turnover.dashboard.shared.jobs_view import jobs_with
from turnover.dashboard.shared.notice import heading, quiet
from turnover.dashboard.state import runs_folder
from turnover.jobs import find_jobs

runs = runs_folder()
quiet(
    "Train a classifier with turn-over dropout and compute its influences. Empty fields mean what "
    "suits the data set."
)
request = ask_for_training(runs)
start_or_check(request, runs)
if jobs_with(find_jobs(runs), "train"):
    heading("Trainings", "Newest first; they take turns.")
    show_jobs(lambda: jobs_with(find_jobs(runs), "train"))
