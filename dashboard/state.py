"""What tabs share: opened runs, their errors and their workers; and which run a tab looks at.

A run is opened once for each state of its files: what tells its manifest and its influence's from
older ones is part of the key. `st.cache_resource` does not keep two tabs from loading the same
thing at once, so loading holds a lock, one for each thing of each run: nobody waits for another
run's files. A run that cannot be opened is not remembered: as soon as it is mended, the next click
opens it.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import streamlit as st

from turnover.dashboard import engine
from turnover.dashboard.components.notice import no_runs, problem
from turnover.dashboard.views.errors import ANY
from turnover.dashboard.views.flags import ANY_DECISION, ANYBODY
from turnover.dashboard.views.map import (
    ALL,
    COMPONENTS,
    UMAP,
    Points,
    build_points,
    project,
    project_umap,
)
from turnover.dashboard.views.training import SELF, TrainingItem, training_items
from turnover.errors import TurnoverError
from turnover.explain.explanation import ErrorItem, error_items
from turnover.explain.facts import Certainty, run_certainty
from turnover.explain.groups import MeanMistake
from turnover.flags.export import errors_of
from turnover.runs.run import MANIFEST, Run
from turnover.workflows.cleansing_results import Scores, run_scores

RUN_KEY, _PAGE = "run", "page"
_CHOICES = {
    **{"true": ANY, "predicted": ANY, "search": "", "item": "", "containing": "", "epoch": ""},
    **{"confused": ANY, "taken-for": ANY},
    **{"train": "", "find": "", "order": SELF},
    **{"target": ALL, "of-class": ANY},
    **{"decision": ANY_DECISION, "class": ANY, "person": ANYBODY, "words": "", "flag": ""},
}
"""What is chosen of one run, by widget, and where it begins in another."""
_locks: dict[tuple[str, Path], threading.Lock] = {}


@dataclass(frozen=True)
class Opened:
    """A run, its errors, and what is wrong with its influence ("" if nothing is)."""

    run: Run
    misclassified: tuple[ErrorItem, ...]
    influence_problem: str

    @cached_property
    def certainty(self) -> Certainty | None:
        """What of the run's influences can be told from noise, counted once for all tabs; None if
        they cannot be used.
        """
        return None if self.influence_problem else run_certainty(self.run)

    @cached_property
    def training(self) -> tuple[TrainingItem, ...]:
        """All training items with what ranks them, by position."""
        return training_items(self.run, with_influence=not self.influence_problem)

    @cached_property
    def all_mistakes(self) -> MeanMistake:
        """The mean over all errors, ready to be summed; raises a TurnoverError where the run
        cannot.
        """
        return MeanMistake(self.run)

    @cached_property
    def _maps(self) -> dict[tuple[str, str], Points]:
        return {}

    @cached_property
    def drawn(self) -> dict[tuple[str, str, str], Any]:
        """Figures of maps, by places, way and colours, for all tabs."""
        return {}

    def map_by(self, what: str) -> Points:
        """The points of a map, placed once for all tabs; raises a TurnoverError where there are
        none.
        """
        if (what, COMPONENTS) not in self._maps:
            self._maps[what, COMPONENTS] = build_points(self.run, project(self.run, what))
        return self._maps[what, COMPONENTS]

    def umap_by(self, what: str) -> Points | None:
        """The points as UMAP places them, read once for all tabs; None where that was not computed
        yet. Raises a TurnoverError if they are damaged.
        """
        if (what, UMAP) not in self._maps:
            placed = project_umap(self.run, what)
            if placed is None:
                return None
            self._maps[what, UMAP] = build_points(self.run, placed)
        return self._maps[what, UMAP]

    @cached_property
    def taught(self) -> dict[int, list[str]]:
        """For each training position, the ids of the errors among whose strongest proponents it is;
        empty without influence.
        """
        return {} if self.influence_problem else errors_of(self.run)


def runs_folder() -> Path:
    """The folder that holds the runs."""
    return Path(os.environ.get("TURNOVER_RUNS", "runs"))


def forget_choices() -> None:
    """Another run has other classes and items: filters and the chosen item go back to their
    defaults.
    """
    st.session_state.update(_CHOICES)


def follow_link(page: str) -> None:
    """On another page than before, a link that chooses something goes before what the tab
    remembers: what it leaves out begins anew.
    """
    if st.session_state.get(_PAGE) == page:
        return
    st.session_state[_PAGE] = page
    if named := [name for name in st.query_params if name != RUN_KEY]:
        for name in (*_CHOICES, *named):
            st.session_state.pop(name, None)


def current_run() -> Opened:
    """The run that the sidebar names; where there is none, or it is damaged, the page says so and
    ends here.
    """
    name = st.session_state.get(RUN_KEY)
    if name is None:
        no_runs(runs_folder())
        st.stop()
    try:
        return open_run(runs_folder() / name)
    except TurnoverError as error:
        problem("This run cannot be opened", str(error))
        st.stop()


def open_run(folder: Path) -> Opened:
    """A run, opened and checked once for each state of its files.

    Raises:
        TurnoverError: if it is damaged, foreign or gone.
    """
    with _loading("run", folder):
        return _open(
            str(folder), _changed(folder / MANIFEST), _changed(folder / "influence" / MANIFEST)
        )


def worker_of(run: Run) -> engine.Worker:
    """The worker of a run, the same for all tabs; not started yet."""
    with _loading("worker", run.folder):
        return _worker(
            str(run.folder),
            _changed(run.folder / MANIFEST),
            _changed(run.folder / "influence" / MANIFEST),
        )


def scores_of(run: Run, validation: str) -> Scores:
    """A run's mean influences on a validation set, estimated once for all tabs.

    Raises:
        TurnoverError: as `run_scores`.
    """
    with _loading("scores", run.folder):
        kept = run.folder / "cleansing" / f"{validation}.npz"
        return _scores(
            run,
            validation,
            str(run.folder),
            _changed(run.folder / "influence" / MANIFEST),
            _changed(kept),
        )


def _loading(what: str, folder: Path) -> threading.Lock:
    """The lock of what is loaded once for all tabs."""
    return _locks.setdefault((what, folder.absolute()), threading.Lock())


@st.cache_resource(max_entries=6, show_spinner=False)
def _scores(
    _run: Run,
    validation: str,
    folder: str,
    influence_changed: tuple[int, ...],
    kept_changed: tuple[int, ...],
) -> Scores:
    scores = run_scores(_run, validation)
    _ = scores.estimates
    return scores


@st.cache_resource(max_entries=6, show_spinner=False)
def _open(folder: str, changed: tuple[int, ...], influence_changed: tuple[int, ...]) -> Opened:
    run = Run(Path(folder))
    try:
        _ = run.influence
    except TurnoverError as error:
        return Opened(run, error_items(run, with_influence=False), str(error))
    return Opened(run, error_items(run, with_influence=True), "")


@st.cache_resource(max_entries=2, show_spinner=False, on_release=engine.Worker.close)
def _worker(
    folder: str, changed: tuple[int, ...], influence_changed: tuple[int, ...]
) -> engine.Worker:
    return engine.Worker(engine.worker_command(Path(folder)))


def _changed(path: Path) -> tuple[int, ...]:
    """What tells a file from one that took its place, also where a clock was put back or a copy
    kept its time; () if there is none.
    """
    try:
        facts = path.stat()
    except OSError:
        return ()
    return facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino, facts.st_size
