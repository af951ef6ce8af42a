"""Cleansing: remove the training items that hurt, and train again (Kobayashi et al. 2020, section 4.4).

The score of a training item is its mean influence on a validation set: most negative, it hurts most. What matters is the
comparison: a smaller training set changes a model even if any items went. So three *conditions* are trained from the same
seeds, without turn-over dropout: no removal, the same number of items removed at random (others for each seed), and the
lowest scores removed. Differences between conditions are paired by seed. Of each training the epoch with the least loss
on the items that stop it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import ttest_rel

from core.masks import derive_seed
from core.models.members import Members
from core.recipe import Recipe
from core.training import Split, fit, validate

NONE, RANDOM, CLEANSED = "no cleansing", "random removal", "cleansing"
CONDITIONS = (NONE, RANDOM, CLEANSED)
_RANDOM = 8
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Retrained:
    """One model trained again: its condition and seed, accuracy and mean loss (nats) on the items that it is measured on.

    `validation_loss` is its loss on the items that stopped its training, which a fraction may be chosen by.
    """

    condition: str
    seed: int
    accuracy: float
    loss: float
    validation_loss: float


@dataclass(frozen=True)
class Comparison:
    """A condition less another, seed by seed: mean differences of accuracy and loss (nats), each with the two-sided p-value of a paired t-test.

    A p-value is None where it has no meaning: for one seed, or where all differences are the same.
    """

    other: str
    accuracy: float
    accuracy_p: float | None
    loss: float
    loss_p: float | None


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation over seeds of one condition, and how it compares with those before it in `CONDITIONS`."""

    condition: str
    accuracy: float
    accuracy_sd: float
    loss: float
    loss_sd: float
    validation_loss: float
    against: tuple[Comparison, ...]


def count_removed(total: int, fraction: float) -> int:
    """How many of `total` items a fraction is: floor(fraction · total + ½)."""
    return int(fraction * total + 0.5)


def lowest(scores: np.ndarray, count: int) -> np.ndarray:
    """Positions of the `count` lowest scores, lowest first; ties by position."""
    return np.argsort(scores, kind="stable")[:count]


def kept_rows(condition: str, scores: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Positions of the training items that a condition keeps, in rising order."""
    if condition == NONE:
        return np.arange(len(scores))
    gone = lowest(scores, count) if condition == CLEANSED else np.random.default_rng(derive_seed(seed, _RANDOM)).permutation(len(scores))[:count]
    return np.setdiff1d(np.arange(len(scores)), gone)


def retrain(
    build: Callable[[int], Members],
    recipe: Callable[[int], Recipe],
    train: Split,
    stopping: Split,
    measured: Split,
    scores: np.ndarray,
    count: int,
    seeds: Sequence[int],
    conditions: Sequence[str] = CONDITIONS,
) -> Iterator[Retrained]:
    """Train each condition from each seed and measure it.

    Args:
        build: a seed → a new model.
        recipe: a seed → how it is trained; turn-over dropout off.
        train: all training items.
        stopping: items whose loss ends a training early.
        measured: items that nothing was chosen by.
        scores: `(N,)`, low = remove first.
        count: how many items go.
        seeds: one model each per condition.
        conditions: which to train.
    """
    for seed in seeds:
        for condition in conditions:
            rows = torch.from_numpy(kept_rows(condition, scores, count, seed)).to(train.labels.device)
            model = build(seed)
            history = fit(model, Split(train.inputs[rows], train.labels[rows]), stopping, recipe(seed))
            losses, share_right = validate(model, measured)
            yield Retrained(condition, seed, share_right, float(losses.mean()), history.curves["validation"][history.kept])


def summarise(results: Sequence[Retrained]) -> list[Summary]:
    """One summary for each condition that was trained, in the order of `CONDITIONS`."""
    by_condition = {name: sorted((one for one in results if one.condition == name), key=lambda one: one.seed) for name in CONDITIONS}
    there = [(name, own) for name, own in by_condition.items() if own]
    return [_summary(name, own, there[:number]) for number, (name, own) in enumerate(there)]


def _summary(name: str, own: Sequence[Retrained], before: Sequence[tuple[str, Sequence[Retrained]]]) -> Summary:
    accuracies, losses, stopping = (_values(own, field) for field in ("accuracy", "loss", "validation_loss"))
    spread = 1 if len(own) > 1 else 0
    accuracy_sd, loss_sd = (float(values.std(ddof=spread)) for values in (accuracies, losses))
    against = tuple(_comparison(own, other, results) for other, results in before)
    return Summary(name, float(accuracies.mean()), accuracy_sd, float(losses.mean()), loss_sd, float(stopping.mean()), against)


def _comparison(own: Sequence[Retrained], other: str, results: Sequence[Retrained]) -> Comparison:
    """How a condition's models compare with another's of the same seeds."""
    pairs = [(_values(own, field), _values(results, field)) for field in ("accuracy", "loss")]
    (accuracy, accuracy_p), (loss, loss_p) = ((float(mine.mean() - theirs.mean()), _paired_p(mine, theirs)) for mine, theirs in pairs)
    return Comparison(other, accuracy, accuracy_p, loss, loss_p)


def _paired_p(mine: np.ndarray, theirs: np.ndarray) -> float | None:
    """p-value of a paired t-test; None without a spread of differences, which rounding does not make."""
    meant = len(mine) == len(theirs) > 1 and bool(np.ptp(mine - theirs) > _ROUNDING)
    return float(ttest_rel(mine, theirs).pvalue) if meant else None


def _values(results: Sequence[Retrained], field: str) -> np.ndarray:
    return np.array([getattr(one, field) for one in results])
