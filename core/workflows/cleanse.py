"""Cleanse a run's training set for a chosen validation set: score the items, remove some, retrain.

`prepare` computes the scores, `cleanse` trains each condition at each share from each seed
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
from turnover.runs.run import TRUTH, Run
from turnover.storage.artifacts import fingerprint
from turnover.storage.progress import bar
from turnover.training.fit import Split
from turnover.workflows.cleansing import (
    CLEANSED,
    FLAGGED,
    NONE,
    RANDOM,
    SHARES,
    Decisions,
    Retrained,
    check_classes,
    chosen_share,
    count_removed,
    given_labels,
    halves,
    kept_rows,
    lowest,
    summarise,
)
from turnover.workflows.cleansing_results import OWN, VALIDATION_SETS, Scores, read_cleansings
from turnover.workflows.retraining import Retraining


@dataclass(frozen=True)
class Cleansing:
    """Everything a cleansing of one run for one validation set needs.

    `targets` are the items that choose: influences are computed on them, they stop the trainings,
    and their loss says which share is best; `measured` are others, that report. `validation` is the
    name of the set.
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

    `validation` is `validation`, half of the run's own validation items, the other half of which
    reports; or `elec`, whose files lie in the folder `path`.

    Raises:
        TurnoverError: for an unknown validation set, or one that does not fit the run.
    """
    if run.untrainable:
        raise TurnoverError(run.untrainable)
    device = choose_device(device_choice)
    targets, measured = _splits(run, validation, path, device)
    train = run_split(run, "train", device)
    if run.scored and validation == OWN:
        members = run.influence.members(TRUTH, halves(run.validation["id"])[0]).mean(1)
        scored = Scores(members, None, stored_estimator(run), len(targets.labels))
        return Cleansing(run, device, train, targets, measured, scored, validation)
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
    shares: Sequence[float] | None,
    repeats: int,
    decisions: Decisions | None = None,
    on_result: Callable[[dict[str, Any]], object] | None = None,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Retrain with shares of the items removed, None for the usual ones; returns what `turnover
    cleanse --json` prints.

    With decisions, also on what people decided. `on_result` gets the partial result after each
    model. Models are trained on this machine, or on the Ray `cluster` at an address
    (`turnover.jobs.tasks`). A stopped cleansing goes on with those that are missing, and those of
    an earlier one that is kept with the run are not trained again.

    Raises:
        TurnoverError: for a share that removes nothing or everything of a class, decisions that do,
            or fewer than one repeat.
    """
    run, begun = cleansing.run, time.perf_counter()
    shares = _usual_shares(cleansing) if shares is None else sorted({*shares})
    _check(cleansing, shares, repeats, decisions)
    splits = cleansing.targets, cleansing.measured
    work = Retraining(run, *splits, cleansing.scores, decisions)
    facts = _facts(cleansing, shares, repeats, decisions) | {"data": fingerprint(work.made_with)}
    by_seed = [(NONE, 0.0), *((name, share) for share in shares for name in (RANDOM, CLEANSED))]
    by_seed += [(FLAGGED, 0.0)] if decisions else []
    tasks = [work.task(*which, seed) for seed in range(repeats) for which in by_seed]
    work.begin(_known(run, facts))
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
    result = outcome() | {"trained": len(missing)}
    work.parts.remove()
    return result


def _usual_shares(cleansing: Cleansing) -> list[float]:
    """Those of `SHARES` that remove an item and leave every class one.

    Raises:
        TurnoverError: if there is none.
    """
    usual, labels = [], cleansing.run.train["label"].to_numpy()
    for share in SHARES:
        count = count_removed(len(labels), share)
        left = np.delete(labels, lowest(cleansing.scores, count))
        if count and len(np.unique(left)) == len(np.unique(labels)):
            usual.append(share)
    if not usual:
        raise TurnoverError(
            f"{cleansing.run.folder}: with {len(labels)} training items, no share from "
            f"{SHARES[0]:.0%} to {SHARES[-1]:.0%} removes an item and leaves every class one; name "
            "one with --fraction"
        )
    return usual


def _known(run: Run, facts: dict[str, Any]) -> list[Retrained]:
    """The models of earlier cleansings that would come out the same."""
    return [
        model
        for kept in read_cleansings(run)[0]
        if kept.facts["data"] == facts["data"]
        for model in kept.models
        if model.condition != FLAGGED or kept.facts["flags"] == facts["flags"]
    ]


def _check(
    cleansing: Cleansing, shares: Sequence[float], repeats: int, decisions: Decisions | None
) -> None:
    """Check that something is removed, and that every class keeps an item."""
    scores, classes = cleansing.scores, cleansing.run.classes
    labels = cleansing.run.train["label"].to_numpy()
    for share in shares:
        count = count_removed(len(scores), share) if 0 < share < 1 else 0
        if not 0 < count < len(scores) or repeats < 1:
            raise TurnoverError(
                f"--fraction {share} of {len(scores)} items with --repeats {repeats}: choose a "
                f"share that removes 1 to {len(scores) - 1} items, and 1 or more repeats"
            )
        left = np.delete(labels, lowest(scores, count))
        check_classes(left, classes, f"--fraction {share} removes")
    if decisions:
        rows = kept_rows(FLAGGED, scores, 0, 0, decisions)
        left = given_labels(FLAGGED, labels, decisions)[rows]
        check_classes(left, classes, "the flags take away")


def _facts(
    cleansing: Cleansing, shares: Sequence[float], repeats: int, decisions: Decisions | None
) -> dict[str, Any]:
    """Facts known before anything is trained; `removed_ids` has those of the largest share, the
    most harmful first.
    """
    run, counts = cleansing.run, [count_removed(len(cleansing.scores), one) for one in shares]
    return {
        "run": str(run.folder),
        "validation": cleansing.validation,
        "path": cleansing.scored.path,
        "shares": list(shares),
        "removed": counts,
        "removed_ids": run.train["id"].iloc[lowest(cleansing.scores, counts[-1])].tolist(),
        "total": len(cleansing.scores),
        "flags": (
            None
            if decisions is None
            else {
                "dropped": len(decisions.dropped),
                "relabelled": len(decisions.relabelled),
                "digest": decisions.digest,
            }
        ),
        "repeats": repeats,
        "targets": len(cleansing.targets.labels),
        "own_accuracy": _own_accuracy(run, cleansing.validation),
        "measured_on": len(cleansing.measured.labels),
    }


def _own_accuracy(run: Run, validation: str) -> float | None:
    """Accuracy of the run itself on the validation items that report; None where these are not its
    own.
    """
    if validation != OWN:
        return None
    reported = run.validation.iloc[halves(run.validation["id"])[1]]
    return float((reported["predicted"] == reported["label"]).mean())


def _outcome(results: Sequence[Retrained], begun: float) -> dict[str, Any]:
    """Results of the models trained so far."""
    summaries = summarise(results)
    return {
        "conditions": [asdict(row) for row in summaries],
        "chosen": chosen_share(summaries),
        "models": [asdict(row) for row in results],
        "seconds": round(time.perf_counter() - begun, 2),
    }


def _splits(
    run: Run, validation: str, path: str | None, device: torch.device
) -> tuple[Split, Split]:
    """Targets and measured items of a validation set."""
    if validation == OWN:
        first, second = (
            run_split(run, "validation", device, half) for half in halves(run.validation["id"])
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
