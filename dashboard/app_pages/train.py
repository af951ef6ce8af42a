"""Train: a new run from data and a model, as a job that continues when the page is closed."""

from __future__ import annotations

from turnover.dashboard.components.jobs import show_jobs
from turnover.dashboard.components.notice import heading, quiet
from turnover.dashboard.components.train_form import ask_for_training, start_or_check
from turnover.dashboard.state import runs_folder
from turnover.dashboard.views.jobs import jobs_with
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
