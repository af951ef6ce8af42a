"""The way in which places are made on the map: UMAP takes minutes, so it is a job, and only offered where it is installed."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.components.jobs import begin_job, show_jobs
from turnover.dashboard.components.notice import notice, problem
from turnover.dashboard.state import Opened, runs_folder
from turnover.dashboard.views.jobs import jobs_with
from turnover.dashboard.views.map import COMPONENTS, WAYS, Points, by_of
from turnover.errors import TurnoverError
from turnover.jobs import Job, State, find_jobs
from turnover.maps import has_umap


def choose_way() -> str:
    """One of `WAYS`."""
    return st.selectbox("Way", WAYS, key="way", bind="query-params") if has_umap() else COMPONENTS


def umap_points(opened: Opened, what: str) -> Points | None:
    """The points as UMAP places them; None until they are there: a button begins the job that makes them, which is then followed."""
    try:
        if points := opened.umap_by(what):
            return points
    except TurnoverError as error:
        problem("These places cannot be used", str(error))
    run, by = opened.run, by_of(what)

    def find() -> list[Job]:
        return [job for job in jobs_with(find_jobs(runs_folder()), "map", run.folder) if job.steps[0][-1] == by and job.state is not State.DONE]

    show_jobs(find)
    if not any(job.state.active for job in find()):
        notice("No places by UMAP yet", "They take a minute or more, once, and are kept in the run. Until then the map shows principal components.")
        if st.button("Make them", key="map-umap"):
            begin_job(["map", "--run", str(run.folder), "--by", by], f"Map {run.name}: {by} by UMAP")
    return None
