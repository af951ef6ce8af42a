"""Rank correlations row by row, with intervals, and the reliability of repeated measurements.

Arrays are `(T, n)`, a row for each target. The interval is a bootstrap over targets and columns at
once, since both are samples. Repeated measurements never agree perfectly; Spearman (1910) and Brown
(1910) tell from the correlation r of two parts what it would be for g times as much:

    reliability = g r / (1 + (g − 1) r)

A perfect prediction of the truth behind the measurements correlates with them by the square root of
their reliability.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from turnover.attribution.estimators.estimator import row_pearson
from turnover.research.evaluate.results import Figure

_RESAMPLES = 400
_SPLITS = 20


def row_spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rank correlation of each row, `(T,)`; rows without spread count as 0."""
    return row_pearson(rankdata(first, axis=1), rankdata(second, axis=1))


def mean_spearman(first: np.ndarray, second: np.ndarray) -> Figure:
    """Mean rank correlation over rows, its interval from a bootstrap over rows and columns."""
    rng = np.random.default_rng(0)
    targets, count = first.shape
    means = []
    for _ in range(_RESAMPLES):
        sample = np.ix_(rng.integers(targets, size=targets), rng.integers(count, size=count))
        means.append(row_spearman(first[sample], second[sample]).mean())
    return Figure(float(row_spearman(first, second).mean()), *_bounds(np.array(means)))


def pooled_spearman(first: np.ndarray, second: np.ndarray) -> Figure:
    """Rank correlation of all entries together, `(T, n)` each, its interval from a bootstrap over
    rows: the entries of a row are not independent.
    """
    rng, targets = np.random.default_rng(0), len(first)
    drawn = (rng.integers(targets, size=targets) for _ in range(_RESAMPLES))
    again = [
        row_spearman(first[rows].reshape(1, -1), second[rows].reshape(1, -1))[0] for rows in drawn
    ]
    return Figure(
        float(row_spearman(first.reshape(1, -1), second.reshape(1, -1))[0]),
        *_bounds(np.array(again)),
    )


def mean_over_rows(values: np.ndarray) -> Figure:
    """Mean of one number a target, `(T,)`, its interval from a bootstrap over targets."""
    return Figure(float(values.mean()), *_bounds(_resampled(values).mean(1)))


def median_over_rows(values: np.ndarray) -> Figure:
    """Median of one number a target, `(T,)`, its interval from a bootstrap over targets."""
    return Figure(float(np.median(values)), *_bounds(np.median(_resampled(values), 1)))


def _resampled(values: np.ndarray) -> np.ndarray:
    """Samples of the values with repeats, `(resamples, T)`."""
    return np.random.default_rng(0).choice(values, (_RESAMPLES, len(values)))


def _bounds(means: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def spearman_brown(correlation: float, times: float) -> float:
    """Reliability of `times` as many repetitions as those whose halves correlate so."""
    return times * correlation / (1 + (times - 1) * correlation)


def reliability(repeats: np.ndarray) -> float | None:
    """Of the mean over S repeats `(S, T, n)`: rank correlation of two halves of them, corrected to
    all; None for one.
    """
    count = len(repeats)
    part = count // 2
    if not part:
        return None
    rng = np.random.default_rng(0)
    orders = [rng.permutation(count) for _ in range(_SPLITS)]
    correlations = [
        row_spearman(repeats[order[:part]].mean(0), repeats[order[part : 2 * part]].mean(0)).mean()
        for order in orders
    ]
    return float(spearman_brown(float(np.mean(correlations)), count / part))
