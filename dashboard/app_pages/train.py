"""Train: a new run from data and a model of one's choice, as a job that lives on when the page is closed."""

from __future__ import annotations

from core.jobs import find_jobs
from dashboard.components.jobs import show_jobs
from dashboard.components.notice import heading, quiet
from dashboard.components.train_form import ask_for_training, start_or_check
from dashboard.state import runs_folder
from dashboard.views.jobs import jobs_with

runs = runs_folder()
quiet("Train a classifier with turn-over dropout and compute its influences. Empty fields mean what suits the data set.")
wish = ask_for_training(runs)
start_or_check(wish, runs)
if jobs_with(find_jobs(runs), "train"):
    heading("Trainings", "Newest first; they take turns.")
    show_jobs(lambda: jobs_with(find_jobs(runs), "train"))
