"""The list of runs: those in the folder, from their manifests alone, and those in training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from turnover.dashboard.shared.jobs_view import run_of
from turnover.dashboard.shared.runs_view import run_names, summarise
from turnover.errors import TurnoverError
from turnover.explain.words import snippet
from turnover.jobs import Job
from turnover.runs.partial import find_partials
from turnover.runs.run import Run
from turnover.storage.artifacts import MANIFEST

_LONGEST = 120
_WORK = {
    "train": "in training",
    "influence": "being explained",
    "evaluate": "being measured",
    "cleanse": "being cleansed",
    "prove": "being proved",
}


@dataclass(frozen=True)
class RunRow:
    """A run in the list. `training` is whether it is not one yet; numbers are None while unknown,
    `now` says what is done with it.
    """

    name: str
    training: bool
    data: str = ""
    items: str = ""
    accuracy: float | None = None
    errors: str = ""
    created: str = ""
    now: str = ""


def run_rows(folder: Path, jobs: Sequence[Job]) -> list[RunRow]:
    """The runs in training, then the runs in the order of their choice."""
    now = {run_of(job).name: _work(job) for job in reversed(jobs) if job.state.active}
    young = [
        RunRow(name, training=True, now=now.get(name, "stopped"))
        for name in trainings(folder, jobs)
    ]
    return [*young, *(_row(folder / name, now.get(name, "")) for name in run_names(folder))]


def trainings(folder: Path, jobs: Sequence[Job]) -> list[str]:
    """Names of the runs that are being trained, wait for it, or were stopped."""
    asked = {run_of(job).name for job in jobs if job.state.active and job.steps[0][0] == "train"}
    young = {name for name in asked if not (folder / name).exists()}
    return sorted(young.union(find_partials(folder)))


def _work(job: Job) -> str:
    """What a job does with its run now."""
    step = job.steps[min(len(job.outcome.results), len(job.steps) - 1)]
    return _WORK.get(step[0], "at work")


def _row(folder: Path, now: str) -> RunRow:
    try:
        run = Run(folder)
    except TurnoverError:
        return RunRow(folder.name, training=False, now=now or "cannot be opened")
    results = run.manifest["results"]
    accuracy, size = float(results["validation_accuracy"]), int(results["validation_size"])
    return RunRow(
        run.name,
        training=False,
        data=snippet(summarise(run).data, _LONGEST),
        items=f"{results['train_size']:,} + {size:,} {run.kind}s",
        accuracy=accuracy,
        errors=_errors(run, round((1 - accuracy) * size)),
        created=str(run.manifest.get("created", "")),
        now=now,
    )


def _errors(run: Run, count: int) -> str:
    """How many errors there are, and how many have influences if not all have."""
    explained = 0
    with suppress(OSError, ValueError, KeyError, TypeError):
        manifest = json.loads((run.folder / "influence" / MANIFEST).read_text(encoding="utf-8"))
        explained = len(manifest["errors"])
    if explained >= count:
        return f"{count:,}"
    return f"{count:,}, {f'{explained:,}' if explained else 'none'} explained"


def run_table(rows: Sequence[RunRow]) -> pd.DataFrame:
    """The rows as a table, without columns that say nothing."""
    created = pd.to_datetime(
        [row.created for row in rows], errors="coerce", format="ISO8601", utc=True
    ).tz_localize(None)
    frame = pd.DataFrame(
        {
            "Run": [row.name for row in rows],
            "Right": [row.accuracy and 100 * row.accuracy for row in rows],
            "Errors": [row.errors for row in rows],
            "Items": [row.items for row in rows],
            "Data": [row.data for row in rows],
            "Trained": created,
            "Now": [row.now for row in rows],
        }
    )
    return frame if frame["Now"].any() else frame.drop(columns="Now")
