"""Cleansing: remove harmful training items and retrain (Kobayashi et al. 2020, section 4.4).

The score of a training item is its mean influence on a validation set; the most negative are the
most harmful. What matters is the comparison, since a smaller training set changes a model whichever
items went. So several *conditions* are trained from the same seeds, without turn-over dropout: no
removal; for each share, the same number of items removed at random (a new draw for each seed) and
the lowest scores removed; and optionally what people decided by flags. Of each training the epoch
with the lowest loss on the stopping items is kept.

The validation items fall into two halves by a hash of their ids. One half chooses: it gives the
scores, stops the trainings, and says at which share its loss is least. The other half reports, so
that no choice depends on what is reported.

This module says what each condition trains on, and summarises the retrained models: means, and
differences between conditions, paired by seed, with intervals. It needs no torch to read summaries.
`turnover.workflows.cleanse` runs the trainings, `turnover.workflows.cleansing_results` keeps
scores and results with the run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from turnover.errors import TurnoverError
from turnover.flags import Flag

# What each condition trains on

NONE, RANDOM, CLEANSED, FLAGGED = "no cleansing", "random removal", "cleansing", "your flags"
CONDITIONS = (NONE, RANDOM, CLEANSED)
WITH_FLAGS = (*CONDITIONS, FLAGGED)
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Of the training items; the curve that is measured where nobody names others."""

_RANDOM = 8


@dataclass(frozen=True)
class Decisions:
    """What people decided: positions to drop, and positions with the class numbers that they are
    relabelled to, each `(n,)`.
    """

    dropped: np.ndarray
    relabelled: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, flags: Mapping[int, Flag], classes: list[str], total: int) -> Decisions:
        """The flags that change a training set of `total` items; a flag to keep changes nothing.

        Raises:
            TurnoverError: if none does, or one names an unknown item or class.
        """
        for flag in flags.values():
            if not 0 <= flag.instance < total or (
                flag.action == "relabel" and flag.new_label not in classes
            ):
                raise TurnoverError(
                    f"the flag on training item {flag.instance} does not fit the run's {total} "
                    "items and its classes; clear it"
                )
        dropped = [flag.instance for flag in flags.values() if flag.action == "drop"]
        relabelled = {
            flag.instance: classes.index(flag.new_label)
            for flag in flags.values()
            if flag.action == "relabel"
        }
        if not dropped and not relabelled:
            raise TurnoverError(
                "no training item is flagged to drop or to relabel; flag some on the Errors page, "
                "or leave --flags out"
            )
        parts = (dropped, [*relabelled], [*relabelled.values()])
        return cls(*(np.array(part, np.int64) for part in parts))

    @property
    def digest(self) -> str:
        """A name for these decisions and no others."""
        parts = (self.dropped, self.relabelled, self.labels)
        listed = repr([np.asarray(part).tolist() for part in parts])
        return hashlib.sha256(listed.encode()).hexdigest()[:12]


def halves(ids: Iterable[object]) -> tuple[list[int], list[int]]:
    """Positions of the validation items that choose and of those that report, each rising. An item
    keeps its half as others come and go, but for one at the middle.
    """
    hashes = [hashlib.sha256(str(name).encode("utf-8", "replace")).digest() for name in ids]
    order = sorted(range(len(hashes)), key=lambda position: (hashes[position], position))
    middle = (len(order) + 1) // 2
    return sorted(order[:middle]), sorted(order[middle:])


def count_removed(total: int, fraction: float) -> int:
    """How many of `total` items a fraction is: floor(fraction · total + ½)."""
    return int(fraction * total + 0.5)


def lowest(scores: np.ndarray, count: int) -> np.ndarray:
    """Positions of the `count` lowest scores, lowest first; ties by position."""
    return np.argsort(scores, kind="stable")[:count]


def kept_rows(
    condition: str, scores: np.ndarray, count: int, seed: int, decisions: Decisions | None = None
) -> np.ndarray:
    """Positions of the training items that a condition keeps, in rising order."""
    if condition == NONE:
        return np.arange(len(scores))
    if condition == FLAGGED:
        assert decisions is not None
        gone = decisions.dropped
    else:
        gone = lowest(scores, count) if condition == CLEANSED else _drawn(len(scores), count, seed)
    return np.setdiff1d(np.arange(len(scores)), gone)


def _drawn(total: int, count: int, seed: int) -> np.ndarray:
    """Positions of `count` random items, a new draw for each seed."""
    from turnover.attribution.masks import derive_seed  # needs torch, which pages do not load

    return np.random.default_rng(derive_seed(seed, _RANDOM)).permutation(total)[:count]


def given_labels(
    condition: str, labels: np.ndarray, decisions: Decisions | None = None
) -> np.ndarray:
    """The labels `(N,)` of all training items that a condition trains under."""
    if condition != FLAGGED or decisions is None:
        return labels
    changed = labels.copy()
    changed[decisions.relabelled] = decisions.labels
    return changed


def check_classes(labels: np.ndarray, classes: list[str], what: str) -> None:
    """Check that every class has an item among the remaining labels.

    Raises:
        TurnoverError: if one has none; the text begins with `what`.
    """
    left = np.bincount(labels, minlength=len(classes))
    if not left.all():
        raise TurnoverError(
            f"{what} every training item of class {classes[int(left.argmin())]!r}; choose fewer"
        )


# Retrained models compared

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Retrained:
    """One model trained again: its condition and seed, accuracy and mean loss (nats) on the items
    that it is measured on.

    `validation_loss` is its loss on the items that choose; `share` is what was removed, 0 for
    conditions that do not go by a share.
    """

    condition: str
    seed: int
    accuracy: float
    loss: float
    validation_loss: float
    share: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """A condition minus another, seed by seed: mean differences of accuracy and loss (nats).

    Each with the two-sided p-value of a paired t-test and the 95 % interval that goes with it;
    these are None where undefined: for one seed, or where all differences are equal.
    """

    other: str
    accuracy: float
    accuracy_p: float | None
    accuracy_interval: tuple[float, float] | None
    loss: float
    loss_p: float | None
    loss_interval: tuple[float, float] | None


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation over seeds of one condition at one share, and how it compares
    with no cleansing and, for cleansing, with random removal of the same share.
    """

    condition: str
    accuracy: float
    accuracy_sd: float
    loss: float
    loss_sd: float
    validation_loss: float
    against: tuple[Comparison, ...]
    share: float = 0.0


def summarise(results: Sequence[Retrained]) -> list[Summary]:
    """A summary for each condition and share that was trained: no cleansing, the shares in rising
    order, flags.
    """
    groups: dict[tuple[str, float], list[Retrained]] = {}
    for model in sorted(results, key=_place):
        groups.setdefault((model.condition, model.share), []).append(model)
    return [
        _summary(models, [groups.get(other, []) for other in _references(*which)])
        for which, models in groups.items()
    ]


def _references(condition: str, share: float) -> list[tuple[str, float]]:
    """The conditions with their shares that a condition is compared with."""
    whole = [] if condition == NONE else [(NONE, 0.0)]
    return [*whole, (RANDOM, share)] if condition == CLEANSED else whole


def _place(model: Retrained) -> tuple[object, ...]:
    number = WITH_FLAGS.index(model.condition)
    return model.condition == FLAGGED, model.share, number, model.seed


def chosen_share(conditions: Iterable[Summary]) -> float | None:
    """The share at which cleansing has the least loss on the items that choose, the smaller of two;
    None if none was trained.
    """
    cleansed = [(row.validation_loss, row.share) for row in conditions if row.condition == CLEANSED]
    return min(cleansed)[1] if cleansed else None


def _summary(models: Sequence[Retrained], before: Sequence[Sequence[Retrained]]) -> Summary:
    accuracies, losses, stopping = (
        _values(models, field) for field in ("accuracy", "loss", "validation_loss")
    )
    against = tuple(filter(None, (_comparison(models, results) for results in before)))
    return Summary(
        models[0].condition,
        *_mean_and_sd(accuracies),
        *_mean_and_sd(losses),
        float(stopping.mean()),
        against,
        models[0].share,
    )


def _mean_and_sd(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1 if len(values) > 1 else 0))


def _comparison(models: Sequence[Retrained], references: Sequence[Retrained]) -> Comparison | None:
    """How a condition's models compare with another's of the same seeds; seeds that only one of
    them has are skipped, and None if no seed is left.
    """
    seeds = {model.seed for model in models} & {model.seed for model in references}
    if not seeds:
        return None
    mine, theirs = ([m for m in group if m.seed in seeds] for group in (models, references))
    accuracy, loss = (_values(mine, name) - _values(theirs, name) for name in ("accuracy", "loss"))
    return Comparison(
        references[0].condition,
        *(float(accuracy.mean()), *_tested(accuracy)),
        *(float(loss.mean()), *_tested(loss)),
    )


_LEAST_SEEDS = 4


def _tested(differences: np.ndarray) -> tuple[float | None, tuple[float, float] | None]:
    """p-value and 95 % interval of a paired t-test; None if the differences are equal up to
    rounding, and no p-value of fewer than four, whose spread is too little known for one.
    """
    from scipy.stats import ttest_1samp  # slow to import; pages only read summaries

    if len(differences) < 2 or np.ptp(differences) <= _ROUNDING:
        return None, None
    test = ttest_1samp(differences, 0.0)
    low, high = test.confidence_interval(0.95)
    p_value = float(test.pvalue) if len(differences) >= _LEAST_SEEDS else None
    return p_value, (float(low), float(high))


def _values(results: Sequence[Retrained], field: str) -> np.ndarray:
    return np.array([getattr(model, field) for model in results])
