"""The damping of `best`'s prior: what influences show of it, and what overlapping masks hide.

Along a direction with eigenvalue λ (relative to the largest), training answers a training item by
s/(λ + c): the more others pull the same way, the less one of them matters. c, the *damping*, is the
one whose prior correlates best with the raw influences, target by target; each target counts alike,
so those that all members get right, with hardly an influence, cannot rule.

Influences overstate c. Two sub-networks of complementary masks differ by what trained one of them
and not the other. If instances shared two masks, these would be two networks trained on two halves
of the data, and c would be that of training again. But the masks of other instances overlap with
both, and what trains both sub-networks alike hardly restrains their *difference*: leading
directions look less restrained than they are, and c larger by a decade or more. How much follows
from the masks, so it is simulated: ridge regressions on the items' own features and labels, under
masks like the run's and under two, at several penalties. From the dampings that they show the run's
is read off. No network is trained again, and no truth is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnover.attribution.estimators.basis import NEGLIGIBLE, kernel

GRID = np.arange(-5, 1.26, 0.25)
"""Decimal logarithms of the dampings tried, as shares of the largest eigenvalue."""
_PENALTIES = np.arange(-4.5, -0.4, 1.0)
_ITEMS, _TARGETS, _OUTPUTS = 500, 100, 16
_OVERLAPPING, _HALVES = 6, 18
_RESAMPLES = 20
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Overlap:
    """How a network's masks overlap: of how many `units`, or groups of them, the narrowest layer's
    are, and how many `masks` instances share; None where each has its own.
    """

    units: int
    masks: int | None


def prior(coefficients: np.ndarray, eigenvalues: np.ndarray, damping: float) -> np.ndarray:
    """The direction of each target's influences `(T, r)`, of length 1, for the decimal logarithm of
    a damping; zeros where a target has no coefficients.
    """
    directions: np.ndarray = coefficients / (eigenvalues + 10.0**damping)
    return directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), _TINY)


def damping_of(
    projections: np.ndarray, lengths: np.ndarray, coefficients: np.ndarray, eigenvalues: np.ndarray
) -> tuple[float, float]:
    """The decimal logarithm of the damping that raw influences show, and its standard error over
    targets.

    Args:
        projections: the influences' coefficients in the basis, `(T, r)`.
        lengths: the influences' lengths, `(T,)`.
        coefficients: those expected from features and residuals, `(T, r)`.
        eigenvalues: of the directions, `(r,)`, relative to the largest.
    """
    shares = np.stack(
        [(projections * prior(coefficients, eigenvalues, one)).sum(1) for one in GRID], 1
    ) / np.maximum(lengths[:, None], _TINY)
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(shares), (_RESAMPLES, len(shares)))
    resampled = [_peak(shares[rows].mean(0)) for rows in drawn]
    return _peak(shares.mean(0)), float(np.std(resampled))


def _peak(heights: np.ndarray) -> float:
    """Where a curve over `GRID` is highest, between its points by a parabola."""
    top = int(np.argmax(heights))
    if not 0 < top < len(GRID) - 1:
        return float(GRID[top])
    left, middle, right = heights[top - 1 : top + 2]
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float(GRID[top] + shift * (GRID[1] - GRID[0]))


# What overlapping masks hide


@dataclass(frozen=True)
class _Ridge:
    """Items and targets of a simulation: features `(n, D)` and outputs `(n, C)`."""

    features: np.ndarray
    outputs: np.ndarray
    target_features: np.ndarray
    target_outputs: np.ndarray


def without_overlap(
    damping: float,
    overlap: Overlap,
    train: tuple[np.ndarray, np.ndarray],
    targets: tuple[np.ndarray, np.ndarray],
) -> float:
    """The damping of training again, for the one that influences under overlapping masks show, both
    as decimal logarithms; features `(n, D)` and residuals `(n, C)` of items and targets.
    """
    if overlap.masks == 2:
        return damping
    rng = np.random.default_rng(0)
    items = _drawn(train, targets, rng)
    largest = float(np.linalg.eigvalsh(items.features.T @ items.features)[-1])
    if not (largest > 0 and len(items.outputs) and len(items.target_outputs)):
        return damping
    two = Overlap(overlap.units, 2)
    shown = np.array(
        [
            [
                _shown(items, largest * 10.0**penalty, masks, members, rng)
                for masks, members in ((overlap, _OVERLAPPING), (two, _HALVES))
            ]
            for penalty in _PENALTIES
        ]
    )
    # a larger penalty cannot show a smaller damping but by chance
    overlapping, halves = np.maximum.accumulate(shown, 0).T
    return min(damping, float(np.interp(damping, overlapping, halves)))


def _drawn(
    train: tuple[np.ndarray, np.ndarray],
    targets: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> _Ridge:
    """Some items and targets; many classes are mixed into a few outputs at random."""
    classes = train[1].shape[1]
    mix = np.eye(classes) if classes <= _OUTPUTS else rng.normal(size=(classes, _OUTPUTS))
    parts = []
    for (features, residuals), most in ((train, _ITEMS), (targets, _TARGETS)):
        # of a residual, one-hot label minus probabilities, only the label's entry is positive, and
        # of an item that is learned to the last bit none is
        rows = rng.permutation(np.flatnonzero(residuals.max(1) > 0))[:most]
        labels = np.eye(classes)[residuals[rows].argmax(1)]
        parts += [features[rows].astype(np.float64), labels @ mix]
    return _Ridge(*parts)


def _shown(
    items: _Ridge, penalty: float, overlap: Overlap, members: int, rng: np.random.Generator
) -> float:
    """The damping that turn-over influences of ridge regressions show."""
    count, width = items.features.shape
    total, seen, ahead = np.zeros((len(items.target_features), count)), 0.0, 0.0
    for _ in range(members):
        cohorts, masks = _masks(count, width, overlap, rng)
        rows = 2 * masks[cohorts] * items.features
        weights = np.linalg.solve(rows.T @ rows + penalty * np.eye(width), rows.T @ items.outputs)
        left = items.target_outputs - items.target_features @ weights
        # two sub-networks' predictions lie as far above the whole network's as below it, so the
        # difference of their squared errors is linear in the mask
        slopes = 2 * items.target_features * (left @ weights.T)
        total += (slopes @ (2 * masks - 1).T)[:, cohorts]
        seen += items.outputs - 2 * items.features @ weights + rows @ weights
        ahead += left
    known = items.features, np.asarray(seen)
    within = kernel(known, known)
    across = kernel((items.target_features, np.asarray(ahead)), known)
    eigenvalues, vectors = np.linalg.eigh(within)
    keep = eigenvalues > NEGLIGIBLE * eigenvalues[-1]
    eigenvalues, vectors = eigenvalues[keep] / eigenvalues[-1], vectors[:, keep]
    total -= total.mean(1, keepdims=True)
    return damping_of(
        total @ vectors, np.linalg.norm(total, axis=1), across @ vectors, eigenvalues
    )[0]


def _masks(
    count: int, width: int, overlap: Overlap, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The cohort of each item `(count,)`, and each cohort's mask of 0 and 1, `(masks, width)`."""
    units = min(overlap.units, width)
    pairs = overlap.masks // 2 if overlap.masks else count
    ranks = rng.random((pairs, units)).argsort(1).argsort(1)
    on = (ranks < units // 2)[:, np.arange(width) * units // width].astype(np.float64)
    if overlap.masks is None:
        return np.arange(count), on
    return rng.integers(0, 2 * pairs, count), np.stack([on, 1 - on], 1).reshape(-1, width)
