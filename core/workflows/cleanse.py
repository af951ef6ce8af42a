"""Cleanse a run's training set for a chosen validation set: score the items, remove some, retrain.

`prepare` computes the scores, `cleanse` trains each condition from each seed
(`turnover.workflows.cleansing` explains the conditions, `turnover.workflows.retraining` trains).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from turnover.attribution.device import choose_device
from turnover.attribution.ensemble import Ensemble
from turnover.attribution.influence import mean_influence
from turnover.data.base import Items
from turnover.data.sources.text import load_elec
from turnover.errors import TurnoverError
from turnover.jobs.tasks import open_workers
from turnover.models.family import Reader
from turnover.runs.model import describe_targets, item_features, load_model, run_settings, run_split
from turnover.runs.ranking import stored_estimator
from turnover.runs.run import Run
from turnover.storage.progress import bar
from turnover.training.fit import Split
from turnover.workflows.cleansing import (
    CONDITIONS,
    FLAGGED,
    Decisions,
    Retrained,
    check_classes,
    count_removed,
    given_labels,
    kept_rows,
    lowest,
    summarise,
)
from turnover.workflows.cleansing_results import OWN, VALIDATION_SETS, Scores
from turnover.workflows.retraining import Retraining


@dataclass(frozen=True)
class Cleansing:
    """Everything a cleansing of one run for one validation set needs.

    `targets` are the items that influences are computed on and that stop the training; `measured`
    are others, for the result. `validation` is the name of the set.
    """

    run: Run
    device: torch.device
    train: Split
    targets: Split
    measured: Split
    scored: Scores
    validation: str

    @property
    def scores(self) -> np.ndarray:
        """Mean influence of each training item on the targets, `(N,)` in nats."""
        return self.scored.estimates[0]


def prepare(
    run: Run,
    validation: str = "validation",
    path: str | None = None,
    device_choice: str | None = None,
) -> Cleansing:
    """Compute the mean influences of a run's training items on a validation set.

    `validation` is `validation`, a random half of the run's own validation items, the other half of
    which measures; or `elec`, whose files lie in the folder `path`.

    Raises:
        TurnoverError: for an unknown validation set, or one that does not fit the run.
    """
    device = choose_device(device_choice)
    targets, measured = _splits(run, validation, path, device)
    train = run_split(run, "train", device)
    model, count = load_model(run, device), len(run.train)
    with bar(
        model.members * len(targets.labels) * count, f"{run.name}: mean influence", "pairs"
    ) as advance:
        members = mean_influence(
            model, targets.inputs, targets.labels, np.arange(count), progress=advance
        )
    estimator = stored_estimator(run)
    coefficients = estimator.coefficients_of(
        describe_targets(model, targets, item_features(model, targets.inputs))
    )
    scored = Scores(
        members.numpy(),
        coefficients.mean(0, keepdims=True),
        estimator,
        len(targets.labels),
        "" if path is None else str(path),
    )
    return Cleansing(run, device, train, targets, measured, scored, validation)


def cleanse(
    cleansing: Cleansing,
    fraction: float,
    repeats: int,
    conditions: Sequence[str] = CONDITIONS,
    decisions: Decisions | None = None,
    on_result: Callable[[dict[str, Any]], object] | None = None,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Retrain with a fraction of the items removed; returns what `turnover cleanse --json` prints.

    With the condition `FLAGGED`, also on what people decided. `on_result` gets the partial result
    after each model. Models are trained on this machine, or on the Ray `cluster` at an address
    (`turnover.jobs.tasks`); a stopped cleansing goes on with those that are missing.

    Raises:
        TurnoverError: for a fraction that removes nothing or everything of a class, decisions that
            do, or fewer than one repeat.
    """
    run, begun = cleansing.run, time.perf_counter()
    count = _count(len(cleansing.scores), fraction, repeats)
    _check_left(cleansing, count, conditions, decisions, fraction)
    facts = _facts(
        cleansing, fraction, repeats, count, decisions if FLAGGED in conditions else None
    )
    splits = cleansing.targets, cleansing.measured
    work = Retraining(run, *splits, cleansing.scores, count, decisions)
    tasks = [work.task(name, seed) for seed in range(repeats) for name in conditions]
    work.begin()
    missing = [task for task in tasks if task.result.stem not in work.parts]
    deep = isinstance(work.model(0), Ensemble)

    def outcome() -> dict[str, Any]:
        names = [task.result.stem for task in tasks if task.result.exists()]
        return facts | _outcome([Retrained(**work.parts.load(name)[1]) for name in names], begun)

    try:
        with (
            open_workers(len(tasks), cleansing.device, cluster, deep) as workers,
            bar(len(missing), f"{run.name}: retraining", "models") as advance,
        ):
            for _ in workers.run(missing, advance):
                if on_result:
                    on_result(outcome())
    finally:
        work.end()
    result = outcome()
    work.parts.remove()
    return result


def _count(total: int, fraction: float, repeats: int) -> int:
    count = count_removed(total, fraction) if 0 < fraction < 1 else 0
    if not 0 < count < total or repeats < 1:
        raise TurnoverError(
            f"--fraction {fraction} of {total} items with --repeats {repeats}: choose a share that "
            f"removes 1 to {total - 1} items, and 1 or more repeats"
        )
    return count


def _check_left(
    cleansing: Cleansing,
    count: int,
    conditions: Sequence[str],
    decisions: Decisions | None,
    fraction: float,
) -> None:
    """Check that every class keeps an item."""
    labels = cleansing.run.train["label"].to_numpy()
    check_classes(
        np.delete(labels, lowest(cleansing.scores, count)),
        cleansing.run.classes,
        f"--fraction {fraction} removes",
    )
    if FLAGGED in conditions:
        rows = kept_rows(FLAGGED, cleansing.scores, count, 0, decisions)
        check_classes(
            given_labels(FLAGGED, labels, decisions)[rows],
            cleansing.run.classes,
            "the flags take away",
        )


def _facts(
    cleansing: Cleansing, fraction: float, repeats: int, count: int, decisions: Decisions | None
) -> dict[str, Any]:
    """Facts known before anything is trained."""
    run, removed = cleansing.run, lowest(cleansing.scores, count)
    by_class = np.bincount(run.train["label"].to_numpy()[removed], minlength=len(run.classes))
    return {
        "run": str(run.folder),
        "validation": cleansing.validation,
        "path": cleansing.scored.path,
        "fraction": fraction,
        "removed": count,
        "removed_by_class": dict(zip(run.classes, by_class.tolist(), strict=True)),
        "removed_ids": run.train["id"].iloc[removed].tolist(),
        "flags": (
            None
            if decisions is None
            else {"dropped": len(decisions.dropped), "relabelled": len(decisions.relabelled)}
        ),
        "repeats": repeats,
        "targets": len(cleansing.targets.labels),
        "measured_on": len(cleansing.measured.labels),
    }


def _outcome(results: Sequence[Retrained], begun: float) -> dict[str, Any]:
    """Results of the models trained so far."""
    summaries, models = ([asdict(row) for row in rows] for rows in (summarise(results), results))
    return {
        "conditions": summaries,
        "models": models,
        "seconds": round(time.perf_counter() - begun, 2),
    }


def _splits(
    run: Run, validation: str, path: str | None, device: torch.device
) -> tuple[Split, Split]:
    """Targets and measured items of a validation set."""
    if validation == OWN:
        rows = np.random.default_rng(run_settings(run).seed).permutation(len(run.validation))
        first, second = (
            run_split(run, "validation", device, sorted(half.tolist()))
            for half in np.array_split(rows, 2)
        )
        return first, second
    if validation != "elec":
        raise TurnoverError(
            f"--validation {validation}: choose one of {', '.join(VALIDATION_SETS)}"
        )
    if run.kind != "text" or tuple(run.classes) != ("negative", "positive"):
        raise TurnoverError(
            f"--validation elec: {run.name} does not tell negative from positive texts; choose a "
            "run on sst2 or reviews"
        )
    if path is None:
        raise TurnoverError("--validation elec: name the folder with its files with --path")
    data, read = load_elec(Path(path)), run_settings(run).reader(device)
    first, second = (_foreign(items, read, device) for items in (data.validation, data.test))
    return first, second


def _foreign(items: Items, read: Reader, device: torch.device) -> Split:
    return Split(
        torch.from_numpy(read(items.readable)).to(device),
        torch.from_numpy(items.labels).to(device),
    )
