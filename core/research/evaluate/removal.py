"""Remove a target's proponents and train again: does its loss rise, and is an error gone?

For an error of the run and a method, the k training items with the highest scores on the
*predicted* label, its proponents, are removed, and the plain twin is trained again on the others,
from several seeds. Compared with models of the same seeds trained on everything, that gives

- *change*: what the removal adds to the loss of the predicted label, in nats, mean over seeds and
  errors;
- *flipped*: of the models that made the error with all items, the share that no longer does (Yang
  et al. 2023 ask how few items it takes; here k is given and the share is measured);
- *Spearman*: rank correlation of the sum of the removed scores, the predicted change, with the
  actual one, over errors and k; and over errors alone, for each k and then the mean, since more
  items move a loss more whichever they are.

Removing k items of one class also shifts the balance of classes and shrinks the training set. A
control row of random items, with the same labels as those removed by the shown estimate, measures
that effect; what a method does beyond it is its own.

*Loss added* asks the same of any targets and their true labels, for 1 % and 5 % of the training
items: *added* is what removing a method's proponents does beyond removing as many random items with
the labels of just these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from turnover.attribution.masks import derive_seed
from turnover.errors import TurnoverError
from turnover.research.evaluate.results import SHOWN, Figure, ResultRow
from turnover.research.evaluate.scores import (
    RANDOM,
    Options,
    Scored,
    baseline_scores,
    foreign_scores,
    scores_of_run,
)
from turnover.research.evaluate.statistics import (
    mean_over_rows,
    mean_spearman,
    pooled_spearman,
    reliability,
)
from turnover.research.evaluate.task import EvaluationTask
from turnover.workflows.subsets import retrained

SPEARMAN, SAME_SIZE = "Spearman", "Spearman, same k"
_MATCHED = 13
_DIGITS = 16
_LEAST_RANKED = 4
_SHARES = (0.01, 0.05)


@dataclass(frozen=True)
class Outcome:
    """Of models trained on some items: losses `(S, E)` of the errors' predicted labels in nats, and
    whether they still predict them.
    """

    losses: np.ndarray
    stands: np.ndarray

    @classmethod
    def of(cls, chances: np.ndarray, labels: np.ndarray) -> Outcome:
        """From log-probabilities `(S, E, C)` and the predicted labels `(E,)`."""
        return cls(
            -np.take_along_axis(chances, labels[None, :, None], 2)[..., 0],
            chances.argmax(2) == labels,
        )

    def flipped(self, before: Outcome) -> np.ndarray:
        """For each error made before, the share of its models that no longer make it."""
        stood = before.stands.sum(0)
        gone: np.ndarray = (before.stands & ~self.stands).sum(0)[stood > 0] / stood[stood > 0]
        return gone


def proponents(scores: np.ndarray, count: int) -> np.ndarray:
    """Training positions `(E, count)` of the highest scores `(E, N)`, ties by position."""
    highest: np.ndarray = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return highest


def alike(removed: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Random training positions `(E, count)` with the same labels as those that are removed `(E,
    count)`; a longer draw contains the shorter ones.
    """
    drawn = []
    for error, positions in enumerate(removed):
        order = np.random.default_rng(derive_seed(seed, _MATCHED, error)).permutation(len(labels))
        wanted = np.bincount(labels[positions])
        drawn.append(
            np.concatenate(
                [order[labels[order] == label][:count] for label, count in enumerate(wanted)]
            )
        )
    return np.stack(drawn)


def retrained_without(
    errors: EvaluationTask, removals: Sequence[np.ndarray], seeds: int
) -> tuple[Outcome, list[Outcome]]:
    """Outcomes of models trained on everything, and without each removal: positions `(E, k)`, a row
    for each error.

    Trained sets are kept in the run's folder and shared by methods.

    Raises:
        TurnoverError: if what was kept was changed, or training diverges.
    """
    everything = np.arange(len(errors.run.train))
    sets, rows = {"everything": everything[None]}, []
    for removed in removals:
        # some methods score all errors alike
        different, row = np.unique(np.sort(removed, 1), axis=0, return_inverse=True)
        name = hashlib.sha256(np.ascontiguousarray(different, "<i8").tobytes()).hexdigest()[
            :_DIGITS
        ]
        sets[name] = np.stack([np.setdiff1d(everything, gone) for gone in different])
        rows.append((name, row))
    kept = "removal", {**errors.asked, "seeds": seeds, "epochs": errors.epochs()}
    log_probabilities = retrained(errors, sets, seeds, kept, "log probabilities")
    labels = errors.targets.labels.cpu().numpy()
    columns = np.arange(len(errors.positions))
    before = Outcome.of(log_probabilities["everything"][:, 0], labels)
    return before, [
        Outcome.of(log_probabilities[name][:, row, columns], labels) for name, row in rows
    ]


def figures_of(
    predicted: np.ndarray | None, before: Outcome, after: Mapping[int, Outcome]
) -> dict[str, Figure]:
    """A method's figures, from its predicted changes `(E, k)` (None: it predicts none) and the
    outcome for each k.
    """
    changes = {count: (outcome.losses - before.losses).mean(0) for count, outcome in after.items()}
    figures = {f"change@{count}": mean_over_rows(change) for count, change in changes.items()}
    if before.stands.any():
        figures |= {
            f"flipped@{count}": mean_over_rows(outcome.flipped(before))
            for count, outcome in after.items()
        }
    if predicted is None or len(predicted) < _LEAST_RANKED:
        return figures
    actual = np.stack(list(changes.values()), 1)
    return figures | {
        SPEARMAN: pooled_spearman(predicted, actual),
        SAME_SIZE: mean_spearman(predicted.T, actual.T),
    }


def measure(task: EvaluationTask, options: Options) -> dict[str, Any]:
    """What removing each method's proponents does to a sample of the run's errors.

    Raises:
        TurnoverError: if the run makes no error, or more than half of its training items would be
            removed.
    """
    total = len(task.run.train)
    if max(options.removed) > total // 2:
        raise TurnoverError(
            f"--remove {max(options.removed)}: the run has {total} training items; remove half of "
            "them at most"
        )
    device, counts = str(task.device), sorted(set(options.removed))
    errors = EvaluationTask.of(task.run, device, options.errors, "prediction", task.cluster)
    scored = _methods(errors, options)
    removals = _removals(scored, counts)
    usual = [row.method for row in scored if row.method.endswith(SHOWN)] or [scored[0].method]
    control = Scored(f"random, labels as by {usual[0]}", np.empty(0), 0.0, 0.0)
    removals[control.method] = _controls(errors, removals[usual[0]])
    sets = [removed for positions in removals.values() for removed in positions]
    before, outcomes = retrained_without(errors, sets, options.seeds)
    after = {
        method: dict(zip(counts, outcomes[number * len(counts) :], strict=False))
        for number, method in enumerate(removals)
    }
    changes = np.stack([outcome.losses - before.losses for outcome in outcomes], 2)
    return {
        **_setting(errors, counts, options),
        "made_by_retrained_models": float(before.stands.mean()),
        "reliability": reliability(changes),
        "rows": [
            _row(row, removals.get(row.method), before, after.get(row.method))
            for row in [*scored, control]
        ],
    }


def measure_added(task: EvaluationTask, options: Options) -> dict[str, Any]:
    """What removing each method's proponents adds to the loss of a sample of the run's targets."""
    total = len(task.run.train)
    counts = {f"{share:.0%}": max(1, round(share * total)) for share in _SHARES}
    device = str(task.device)
    targets = EvaluationTask.of(task.run, device, options.errors, cluster=task.cluster)
    scored = _methods(targets, options)
    removals = _removals(scored, [*counts.values()])
    pairs = {
        f"{method} {name}": pair
        for method, removed in removals.items()
        for name, *pair in zip(counts, removed, _controls(targets, removed), strict=True)
    }
    sets = [positions for pair in pairs.values() for positions in pair]
    before, outcomes = retrained_without(targets, sets, options.seeds)
    losses = [outcome.losses for outcome in outcomes]
    without = dict(zip(pairs, zip(losses[::2], losses[1::2], strict=True), strict=True))

    def figures(method: str) -> dict[str, Figure]:
        found = {name: without[f"{method} {name}"] for name in counts}
        return {
            **{f"added@{name}": _mean(one - random) for name, (one, random) in found.items()},
            **{f"change@{name}": _mean(one - before.losses) for name, (one, _) in found.items()},
        }

    return {
        **_setting(targets, [*counts.values()], options),
        "rows": [row.row({} if row.refused else figures(row.method)) for row in scored],
    }


def _mean(changes: np.ndarray) -> Figure:
    """Of changes `(S, T)`, over seeds and then over targets."""
    return mean_over_rows(changes.mean(0))


def _methods(task: EvaluationTask, options: Options) -> list[Scored]:
    """What the run says, the baselines but for random scores, which controls stand for, and another
    engine's scores.
    """
    baselines = [name for name in options.baselines if name != RANDOM]
    return [
        *scores_of_run(task),
        *baseline_scores(task, baselines),
        *foreign_scores(task, options),
    ]


def _removals(scored: Sequence[Scored], counts: Sequence[int]) -> dict[str, list[np.ndarray]]:
    """The proponents of every method that has scores, so many at a time."""
    return {
        row.method: [proponents(row.values, count) for count in counts]
        for row in scored
        if not row.refused
    }


def _controls(task: EvaluationTask, removed: Sequence[np.ndarray]) -> list[np.ndarray]:
    """As many random items with the same labels."""
    labels = task.run.train["label"].to_numpy()
    return [alike(positions, labels, task.settings.seed) for positions in removed]


def _setting(task: EvaluationTask, counts: Sequence[int], options: Options) -> dict[str, Any]:
    return {
        "targets": len(task.positions),
        "removed": list(counts),
        "seeds": options.seeds,
        "epochs": task.epochs(),
    }


def _row(
    scored: Scored,
    removed: list[np.ndarray] | None,
    before: Outcome,
    after: Mapping[int, Outcome] | None,
) -> ResultRow:
    if removed is None or after is None:
        return scored.row({})
    predicted = (
        np.stack(
            [np.take_along_axis(scored.values, positions, 1).sum(1) for positions in removed], 1
        )
        if scored.values.size
        else None
    )
    return scored.row(figures_of(predicted, before, after))
