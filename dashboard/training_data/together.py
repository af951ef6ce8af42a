"""What is below the training items: the selected ones summed, and the job that computes a map."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from turnover.dashboard.shared.groups import show_sums
from turnover.dashboard.shared.groups_view import GroupRow
from turnover.dashboard.shared.jobs import begin_job, show_jobs
from turnover.dashboard.shared.jobs_view import jobs_with
from turnover.dashboard.shared.notice import notice, problem, quiet
from turnover.dashboard.state import Opened, runs_folder
from turnover.dashboard.training_data.browse_view import MAP, Place
from turnover.dashboard.training_data.map_view import FEATURES, INFLUENCES, UMAP
from turnover.errors import TurnoverError, counted
from turnover.explain.groups import MEANINGS, Group
from turnover.jobs import Job, State, find_jobs


def show_together(opened: Opened, selected: list[int]) -> None:
    """What the selected items did to the errors, beside a random group of the same labels."""
    if not selected or opened.influence_problem:
        return
    expander = st.expander(
        "What the selected items did to the errors", key="together", on_change="rerun"
    )
    if not expander.open:
        return
    with expander:
        try:
            losses = opened.all_mistakes
            group = Group("Selected", np.array(sorted(set(selected))), ranked=False)
            prediction, truth = (losses.sums([group], meaning)[0] for meaning in MEANINGS)
            shown = GroupRow(group.name, len(selected), prediction, truth)
        except TurnoverError as error:
            problem("Influences cannot be summed", str(error))
            return
        errors = len(opened.run.influence.misclassified)
        over = f"mean over {counted(errors, 'error')}"
        show_sums(opened.run, [shown], (f"On the predictions, {over}", f"On the truth, {over}"))


def drawn_map(opened: Opened, place: Place) -> dict[str, Any] | None:
    """The map that a place asks for, where it is the view; after a message, another one if that is
    missing.
    """
    if place.view != MAP:
        return None
    by = place.places or FEATURES
    if by == INFLUENCES and opened.influence_problem:
        notice("No influence", "This run has none that can be used, so the map is by features.")
        by = FEATURES
    try:
        if place.way == UMAP and (points := opened.map_by(by, UMAP)):
            return points
        points = opened.map_by(by, "")
    except TurnoverError as error:
        problem("This map cannot be drawn", str(error))
        points = opened.map_by(FEATURES, "")
    if place.way == UMAP:
        _offer_umap(opened, by)
    return points


def _offer_umap(opened: Opened, by: str) -> None:
    """A button that starts the job, and its progress."""
    run = opened.run

    def find() -> list[Job]:
        return [
            job
            for job in jobs_with(find_jobs(runs_folder()), "map", run.folder)
            if job.steps[0][-1] == by and job.state is not State.DONE
        ]

    show_jobs(find)
    if not any(job.state.active for job in find()):
        quiet(
            "UMAP takes a minute or more, once, and is kept in the run. Until then the map shows "
            "principal components."
        )
        if st.button("Compute UMAP", key="map-umap"):
            begin_job(
                ["map", "--run", str(run.folder), "--by", by], f"Map {run.name}: {by} by UMAP"
            )
