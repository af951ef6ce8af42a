"""What retrained models say together: means of each condition, and differences paired by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from turnover.cleansing.choose import WITH_FLAGS

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
    """A condition less another, seed by seed: mean differences of accuracy and loss (nats).

    Each with the two-sided p-value of a paired t-test and the 95 % interval that goes with it; these are None where they have
    no meaning: for one seed, or where all differences are the same.
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
    """Mean and standard deviation over seeds of one condition, and how it compares with those before it in `WITH_FLAGS`."""

    condition: str
    accuracy: float
    accuracy_sd: float
    loss: float
    loss_sd: float
    validation_loss: float
    against: tuple[Comparison, ...]


def summarise(results: Sequence[Retrained]) -> list[Summary]:
    """One summary for each condition that was trained, in the order of `WITH_FLAGS`."""
    by_condition = {name: sorted((one for one in results if one.condition == name), key=lambda one: one.seed) for name in WITH_FLAGS}
    there = [(name, own) for name, own in by_condition.items() if own]
    return [_summary(name, own, there[:number]) for number, (name, own) in enumerate(there)]


def _summary(name: str, own: Sequence[Retrained], before: Sequence[tuple[str, Sequence[Retrained]]]) -> Summary:
    accuracies, losses, stopping = (_values(own, field) for field in ("accuracy", "loss", "validation_loss"))
    spread = 1 if len(own) > 1 else 0
    accuracy_sd, loss_sd = (float(values.std(ddof=spread)) for values in (accuracies, losses))
    against = tuple(_comparison(own, other, results) for other, results in before)
    return Summary(name, float(accuracies.mean()), accuracy_sd, float(losses.mean()), loss_sd, float(stopping.mean()), against)


def _comparison(own: Sequence[Retrained], other: str, results: Sequence[Retrained]) -> Comparison:
    """How a condition's models compare with another's of the same seeds; seeds that only one of the two has are left out."""
    seeds = {one.seed for one in own} & {one.seed for one in results}
    mine, theirs = ([one for one in some if one.seed in seeds] for some in (own, results))
    accuracy, loss = (_values(mine, field) - _values(theirs, field) for field in ("accuracy", "loss"))
    return Comparison(other, float(accuracy.mean()), *_tested(accuracy), float(loss.mean()), *_tested(loss))


def _tested(differences: np.ndarray) -> tuple[float | None, tuple[float, float] | None]:
    """p-value and 95 % interval of a paired t-test; None without a spread of differences, which rounding does not make."""
    from scipy.stats import ttest_1samp  # takes a second, which pages that only read summaries do without

    if len(differences) < 2 or np.ptp(differences) <= _ROUNDING:
        return None, None
    found = ttest_1samp(differences, 0.0)
    low, high = found.confidence_interval(0.95)
    return float(found.pvalue), (float(low), float(high))


def _values(results: Sequence[Retrained], field: str) -> np.ndarray:
    return np.array([getattr(one, field) for one in results])
