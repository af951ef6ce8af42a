"""State shared by all tabs: opened runs, their errors and their workers; and a tab's current run.

A run is opened once for each state of its files: the cache key includes the identity (times, inode,
size) of its manifest and of its influence's manifest. `st.cache_resource` does not keep two tabs
from loading the same object at once, so loading holds a lock, one per kind of object and run;
nobody waits for another run's files. A run that cannot be opened is not cached: once repaired, it
opens at the next click.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import streamlit as st

from turnover.dashboard import engine
from turnover.dashboard.errors.list_view import confusions
from turnover.dashboard.shared.choice_view import ANY
from turnover.dashboard.shared.flags_view import ANY_DECISION, ANYBODY
from turnover.dashboard.shared.notice import no_runs, notice, problem
from turnover.dashboard.training_data.map_view import (
    ALL,
    COMPONENTS,
    UMAP,
    Points,
    build_points,
    project,
    project_umap,
)
from turnover.dashboard.training_data.training_view import SELF, TrainingItem, training_items
from turnover.errors import TurnoverError
from turnover.explain.causes import Causes, causes, kept_causes
from turnover.explain.explanation import ErrorItem, error_items
from turnover.explain.facts import Certainty, run_certainty
from turnover.explain.groups import MeanMistake
from turnover.explain.reasons import unknown
from turnover.explain.words import snippet
from turnover.flags.export import errors_of
from turnover.runs.run import Run
from turnover.storage.artifacts import MANIFEST
from turnover.workflows.cleansing_results import Scores, run_scores

RUN_KEY, UNKNOWN_RUN, NEXT_RUN, _PAGE = "run", "unknown-run", "next-run", "page"
PLACE = "place"
"""Where the tab is on the Errors page."""

_CHOICES = {
    **{PLACE: None, "containing": ""},
    **{"train": "", "find": "", "order": SELF},
    **{"target": ALL, "of-class": ANY},
    **{"decision": ANY_DECISION, "class": ANY, "person": ANYBODY, "words": "", "flag": ""},
}
"""Widgets whose values belong to one run, with the defaults they get when the run changes."""
_MOST = 10_000
"""Training items among which a page looks for causes itself: some seconds."""

_locks: dict[tuple[str, Path], threading.Lock] = {}
_numbers = itertools.count(time.time_ns())


@dataclass(frozen=True)
class Opened:
    """A run, its misclassified items, why its influence cannot be used ("" if it can), and a number
    that no other opening of a run has.
    """

    run: Run
    misclassified: tuple[ErrorItem, ...]
    influence_problem: str
    number: int

    @cached_property
    def causes(self) -> Causes | None:
        """Why each error is one, found once for all tabs; None without influence. Of many training
        items, whose neighbours nobody waits for, only what the run keeps.
        """
        if self.influence_problem:
            return None
        with suppress(TurnoverError):  # damaged ones are computed anew
            if known := kept_causes(self.run):
                return known
        if len(self.run.train) <= _MOST:
            return causes(self.run)
        again = f"Not looked for yet: `turnover influence --run {self.run.folder}` finds causes."
        found = (
            replace(unknown(error, again), group="") for error in self.run.misclassified_positions
        )
        return Causes(tuple(found), {}, again)

    @cached_property
    def groups(self) -> dict[int, str]:
        """The name of each error's cause by its position, the largest group first; {} without
        influence.
        """
        groups = self.causes.groups if self.causes else ()
        return {error: group.name for group in groups for error in group.errors}

    @cached_property
    def panes(self) -> dict[str, dict[str, Any]]:
        """Errors with their teachers as data for the browser, by id, shared by all tabs."""
        return {}

    @cached_property
    def confusions(self) -> list[dict[str, Any]]:
        """Which class is taken for which, the most frequent first."""
        return confusions(self.misclassified)

    @cached_property
    def certainty(self) -> Certainty | None:
        """How many of the run's influences are distinguishable from noise, counted once for all
        tabs; None if they cannot be used.
        """
        return None if self.influence_problem else run_certainty(self.run)

    @cached_property
    def training(self) -> tuple[TrainingItem, ...]:
        """All training items with the values that rank them, by position."""
        return training_items(self.run, with_influence=not self.influence_problem)

    @cached_property
    def all_mistakes(self) -> MeanMistake:
        """The mean influence on all misclassified items, ready for sums over groups.

        Raises:
            TurnoverError: if the run does not support sums.
        """
        return MeanMistake(self.run)

    @cached_property
    def _maps(self) -> dict[tuple[str, str], Points]:
        return {}

    @cached_property
    def drawn(self) -> dict[tuple[str, str, str], Any]:
        """Map figures shared by all tabs, by projection, way and colours."""
        return {}

    def map_by(self, what: str) -> Points:
        """The points of a map by principal components, computed once for all tabs.

        Raises:
            TurnoverError: if the run cannot be projected by `what`.
        """
        if (what, COMPONENTS) not in self._maps:
            self._maps[what, COMPONENTS] = build_points(self.run, project(self.run, what))
        return self._maps[what, COMPONENTS]

    def umap_by(self, what: str) -> Points | None:
        """The points of a map by UMAP, read once for all tabs; None if not computed yet.

        Raises:
            TurnoverError: if the stored positions are damaged.
        """
        if (what, UMAP) not in self._maps:
            projection = project_umap(self.run, what)
            if projection is None:
                return None
            self._maps[what, UMAP] = build_points(self.run, projection)
        return self._maps[what, UMAP]

    @cached_property
    def taught(self) -> dict[int, list[str]]:
        """For each training position, the ids of the misclassified items that have it among their
        strongest proponents; empty without influence.
        """
        return {} if self.influence_problem else errors_of(self.run)


def runs_folder() -> Path:
    """The folder that holds the runs."""
    return Path(os.environ.get("TURNOVER_RUNS", "runs"))


def forget_choices() -> None:
    """Reset filters and the chosen item, since another run has other classes and items."""
    st.session_state.update(_CHOICES)
    st.session_state.pop(UNKNOWN_RUN, None)


def follow_link(page: str) -> None:
    """When the page changes by a link that sets something, drop the tab's remembered choices, so
    that what the link does not name has its default; the place on the Errors page (the first, "")
    only by a link to there.
    """
    if st.session_state.get(_PAGE) == page:
        return
    st.session_state[_PAGE] = page
    if named := [name for name in st.query_params if name != RUN_KEY]:
        for name in {*_CHOICES, *named} - ({PLACE} if page else set()):
            st.session_state.pop(name, None)


def current_run() -> Opened:
    """The run chosen in the sidebar; if there is none or it is damaged, stop the page there."""
    name = st.session_state.get(RUN_KEY)
    if name is None:
        no_runs(runs_folder())
        st.stop()
    if unknown := st.session_state.get(UNKNOWN_RUN):
        notice(
            f"There is no run “{snippet(unknown, 80)}” here",
            f"The address names it. Shown is {name}; the sidebar has the others.",
        )
    try:
        return open_run(runs_folder() / name)
    except TurnoverError as error:
        problem("This run cannot be opened", str(error))
        st.stop()


def open_run(folder: Path) -> Opened:
    """Open and check a run, once for each state of its files.

    Raises:
        TurnoverError: if it is damaged, foreign or missing.
    """
    with _loading("run", folder):
        return _open(
            str(folder), _changed(folder / MANIFEST), _changed(folder / "influence" / MANIFEST)
        )


def worker_of(run: Run) -> engine.Worker:
    """The worker of a run, shared by all tabs; not started here."""
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
        scores_file = run.folder / "cleansing" / f"{validation}.npz"
        return _scores(
            run,
            validation,
            str(run.folder),
            _changed(run.folder / "influence" / MANIFEST),
            _changed(scores_file),
        )


def _loading(what: str, folder: Path) -> threading.Lock:
    """The lock for loading one kind of object (`what`) of a run."""
    return _locks.setdefault((what, folder.absolute()), threading.Lock())


@st.cache_resource(max_entries=6, show_spinner=False)
def _scores(
    _run: Run,
    validation: str,
    folder: str,
    influence_changed: tuple[int, ...],
    scores_changed: tuple[int, ...],
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
        items, why = error_items(run, with_influence=False), str(error)
        return Opened(run, items, why, next(_numbers))
    return Opened(run, error_items(run, with_influence=True), "", next(_numbers))


@st.cache_resource(max_entries=2, show_spinner=False, on_release=engine.Worker.close)
def _worker(
    folder: str, changed: tuple[int, ...], influence_changed: tuple[int, ...]
) -> engine.Worker:
    return engine.Worker(engine.worker_command(Path(folder)))


def _changed(path: Path) -> tuple[int, ...]:
    """The identity of a file, which differs for a replacement even where a clock was set back or a
    copy preserved its time; () if there is no file.
    """
    try:
        facts = path.stat()
    except OSError:
        return ()
    return facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino, facts.st_size
