"""For which validation items a run is cleansed, and how much of it goes; what is chosen lives in the URL."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from turnover.cleansing.scores import ELEC, OWN, Scores, has_scores
from turnover.dashboard.components.jobs import begin_job
from turnover.dashboard.components.notice import notice, problem, wrong_field
from turnover.dashboard.state import scores_of
from turnover.dashboard.views.paths import path_problem, whole
from turnover.data.sst2 import CLASSES
from turnover.errors import TurnoverError
from turnover.runs import Run

_NAMES = {OWN: "The run’s own", ELEC: "Reviews of electronics (Elec)"}


def choose_scores(run: Run) -> tuple[str, Scores | None]:
    """The validation set that is chosen, and the scores for it; None where there are none yet, and the page says how to get them."""
    validation = OWN
    if run.kind == "text" and tuple(run.classes) == CLASSES:
        chosen = st.segmented_control("Cleanse for", list(_NAMES.values()), default=_NAMES[OWN], required=True, key="validation", bind="query-params")
        validation = next(name for name, words in _NAMES.items() if words == (chosen or _NAMES[OWN]))
    if has_scores(run, validation):
        try:
            return validation, scores_of(run, validation)
        except TurnoverError as error:
            problem("These influences cannot be used", str(error))
            if validation == OWN:
                return validation, None
    else:
        notice("No influences on these reviews yet", "Name the folder with valid.csv and test.csv, and they are computed in some seconds.")
    _compute(run, validation)
    return validation, None


def choose_share() -> float:
    """The share of the training items that goes, from 0 to 1."""
    return st.slider("Share removed, %", 0.1, 30.0, 1.0, 0.1, "%.1f", key="share", bind="query-params") / 100


def _compute(run: Run, validation: str) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        folder = (st.text_input("Folder with the files", key="elec-path", bind="query-params") or "").strip()
        wrong = path_problem(folder, Path.is_dir, "folder") if folder else ""
        if st.button("Compute influences", disabled=not folder or bool(wrong), key="cleanse-score"):
            step = ["cleanse", "--run", str(run.folder), "--validation", validation, "--path", whole(folder), "--score-only"]
            begin_job(step, f"Influences of {run.name} on {validation}")
    if wrong:
        wrong_field(wrong)
