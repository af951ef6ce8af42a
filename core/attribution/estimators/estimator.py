"""The choice of a run's estimator, its application to any target, and smoothing for comparison.

One member has no spread, so its raw influences are all there is. With two or more members the
estimator is `best`. With four or more it is first compared with `median`: each is computed from one
half of the members and judged by the mean square of its difference to the other half's raw
influences. The halves' noise is independent, so the difference of two candidates' mean squares is
that of their errors; `best` must do at least as well.

*Smoothed* is the mean over members, smoothed over similar training items, one target at a time.
Items with similar features and the same label have similar influences, so a ridge regression of a
target's raw influences r ∈ ℝᴺ on the training items' features times their signed labels keeps what
they share:

    r̂ = K (K + λI)⁻¹ r,   K_ij = ⟨φ_i, φ_j⟩ · ⟨e(y_i) − p̄, e(y_j) − p̄⟩

with features φ, one-hot labels e and class shares p̄. With B Bᵀ = K (K + λI)⁻¹ from K's
eigenvectors, smoothing is two thin products, `B (Bᵀ r)`, and it is linear: members may be smoothed
before or after their mean. λ is the one whose fit to one half of the members has the smallest
squared error on the other half, halved: the best λ is proportional to the noise, and all members
have half the noise of one half. Where influence is local, smoothing loses, so runs show `best`
instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from turnover.attribution.estimators import BEST, MEDIAN, RAW
from turnover.attribution.estimators.basis import Basis, make_basis
from turnover.attribution.estimators.damping import Overlap, without_overlap
from turnover.attribution.estimators.shrinkage import (
    Posterior,
    Shrinkage,
    fit_shrinkage,
    noise_shares,
)
from turnover.errors import TurnoverError

_LEAST_TO_COMPARE = 4
_MEDIAN_ERROR = (np.pi / 2) ** 0.5


@dataclass(frozen=True)
class Described:
    """What is known about some items besides influences: features `(n, D)`, and residuals, one-hot
    label minus probabilities, `(n, C)`.
    """

    features: np.ndarray
    residuals: np.ndarray


@dataclass(frozen=True)
class Estimator:
    """How the members' influences become one number.

    `agreement` holds, for each candidate, the mean row correlation between it on one half of the
    members and the raw median of the other half; empty for fewer than four members. It judges the
    order only; the choice uses the mean square. `noise` is κ `(N,)` of the training items. Only
    `best` has the last three.
    """

    name: str
    agreement: dict[str, float]
    noise: np.ndarray | None = None
    basis: Basis | None = None
    shrinkage: Shrinkage | None = None

    @property
    def directions(self) -> int:
        """Columns r of a target's coefficients; 0 where the estimator needs none."""
        return 0 if self.basis is None else self.basis.vectors.shape[1]

    def coefficients_of(self, targets: Described) -> np.ndarray:
        """What `apply` needs besides the influences of T targets: `(T, r)`, without columns where
        it needs nothing.
        """
        return (
            np.zeros((len(targets.residuals), 0), np.float32)
            if self.basis is None
            else self.basis.coefficients_of(targets.features, targets.residuals)
        )

    def apply(self, members: np.ndarray, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Estimates and errors, each `(T, N)` in nats, of raw influences `(K, T, N)`; errors are
        NaN for one member.

        For mean influences over some targets, pass the mean of the targets' coefficients.
        """
        posterior = self._posterior(members, coefficients)
        return (np.median(members, 0), _spread(members)) if posterior is None else posterior.items()

    def foreseen(self, members: np.ndarray, coefficients: np.ndarray) -> np.ndarray | None:
        """The part of `apply`'s estimates `(T, N)`, in nats, that items have in common with those
        like them: the prior's. The rest is what the members show of the item itself. None for an
        estimator without a prior.
        """
        posterior = self._posterior(members, coefficients)
        return None if posterior is None else posterior.foreseen()

    def group(
        self, members: np.ndarray, coefficients: np.ndarray, inside: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Summed estimates of groups of training items and their errors, each `(T, G)` in nats;
        errors are NaN for one member.

        A sum adds the items' estimates from `apply`. Its error is not the root of their summed
        squares, since errors of items are correlated: for `best` it comes from their joint
        distribution (`turnover.attribution.estimators.shrinkage.Posterior`), for the median from
        the spread of the members' sums. The median of those sums would be another estimate; but
        then a group would not be the sum of the shown values of its items, which are medians
        because single members have outliers.

        Args:
            members: raw influences `(K, T, N)`.
            coefficients: of the targets, as for `apply`.
            inside: which items are in which group, `(G, N)`.
        """
        posterior = self._posterior(members, coefficients)
        if posterior is None:
            loads = inside.astype(members.dtype)
            return np.median(members, 0) @ loads.T, _spread(members @ loads.T)
        return posterior.sums(inside)

    def _posterior(self, members: np.ndarray, coefficients: np.ndarray) -> Posterior | None:
        """That of `best`; None for the other estimators."""
        if self.noise is None or self.basis is None or self.shrinkage is None:
            return None
        return self.shrinkage.posterior(members, self.noise, self.basis, coefficients)


def _spread(members: np.ndarray) -> np.ndarray:
    """Standard error of the median over members `(K, …)`, for normal noise; NaN for one member."""
    count = len(members)
    return (
        members.std(0, ddof=1) * _MEDIAN_ERROR / count**0.5
        if count > 1
        else np.full_like(members[0], np.nan)
    )


def choose_estimator(
    pilot: np.ndarray, train: Described, targets: Described, overlap: Overlap | None = None
) -> Estimator:
    """The estimator that predicts held-out members best.

    Args:
        pilot: raw influences `(K, T, N)` of some targets.
        train: the N training items, their probabilities from the flipped sub-networks.
        targets: these T targets.
        overlap: how the masks overlap; None where what they hide of the damping shall stay hidden.

    Raises:
        TurnoverError: if the pilot does not have one column per training item.
    """
    members, _, count = pilot.shape
    if count != len(train.features):
        raise TurnoverError(
            f"{count} influences a target for {len(train.features)} training items; compute one for"
            " each"
        )
    if members < 2:
        return Estimator(RAW, {})
    noise, basis = noise_shares(pilot), make_basis(train.features, train.residuals)
    coefficients = basis.coefficients_of(targets.features, targets.residuals)
    agreement, misses = (
        _compared(pilot, noise, basis, coefficients) if members >= _LEAST_TO_COMPARE else ({}, {})
    )
    if misses and misses[BEST] > misses[MEDIAN]:
        return Estimator(MEDIAN, agreement)
    shrinkage = fit_shrinkage(pilot, basis, coefficients)
    if overlap is not None:
        items = [(basis.projected(some.features), some.residuals) for some in (train, targets)]
        retrained = without_overlap(shrinkage.damping, overlap, *items)
        shrinkage = replace(shrinkage, retrained=retrained)
    return Estimator(BEST, agreement, noise, basis, shrinkage)


def _compared(
    pilot: np.ndarray, noise: np.ndarray, basis: Basis, coefficients: np.ndarray
) -> tuple[dict[str, float], dict[str, float]]:
    """Each candidate on one half of the members against the raw influences of the other half, both
    ways: mean row correlation, mean square difference.
    """
    scores: dict[str, list[tuple[float, float]]] = {MEDIAN: [], BEST: []}
    for half, other_half in ((pilot[0::2], pilot[1::2]), (pilot[1::2], pilot[0::2])):
        raw = np.median(other_half, 0)
        candidates = {
            MEDIAN: np.median(half, 0),
            BEST: fit_shrinkage(half, basis, coefficients)
            .posterior(half, noise, basis, coefficients)
            .items()[0],
        }
        for name, estimate in candidates.items():
            difference = (estimate - raw) - (estimate - raw).mean(1, keepdims=True)
            scores[name].append(
                (row_pearson(estimate, raw).mean(), float(np.square(difference).mean()))
            )
    agreement, misses = (
        {name: float(np.mean([pair[column] for pair in pairs])) for name, pairs in scores.items()}
        for column in (0, 1)
    )
    return agreement, misses


def row_pearson(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlation of each row of two `(T, N)` arrays, `(T,)`; rows without spread count as 0."""
    first, second = (
        array - array.mean(1, keepdims=True, dtype=np.float64) for array in (first, second)
    )
    sizes = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.divide((first * second).sum(1), sizes, out=np.zeros(len(sizes)), where=sizes > 0)


# Smoothing, for comparison

PENALTIES = tuple(10 ** (exponent / 2) for exponent in range(-8, 3))
"""Ridge penalties tried, as shares of the sum of K's eigenvalues."""

_MOST_EIGENVECTORS = 768


@dataclass(frozen=True)
class Smoother:
    """`factor` is B `(N, r)`; `penalty` is λ as a share of the sum of K's eigenvalues."""

    factor: np.ndarray
    penalty: float

    def apply(self, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Estimate and standard error, each `(T, N)` in nats, of member values `(K, T, N)`,
        K ≥ 2.
        """
        smooth = (members @ self.factor) @ self.factor.T
        return smooth.mean(0), smooth.std(0, ddof=1) / len(smooth) ** 0.5


def smoothing(
    pilot: np.ndarray, features: np.ndarray, labels: np.ndarray, classes: int
) -> Smoother:
    """The smoother that predicts held-out members best.

    Args:
        pilot: raw influences `(K, T, N)` of some targets, K ≥ 2.
        features: of the training items, `(N, D)`.
        labels: of the training items, `(N,)` class numbers.
        classes: how many classes there are.
    """
    halves = pilot[0::2].mean(0), pilot[1::2].mean(0)
    vectors, values = kernel_factor(features.astype(np.float64), labels, classes)

    def factor(penalty: float) -> np.ndarray:
        scaled: np.ndarray = vectors * np.sqrt(values / (values + penalty * values.sum()))
        return scaled

    def squared_error(penalty: float) -> float:
        candidate = factor(penalty)
        return sum(
            float(np.square(other_half - (half @ candidate) @ candidate.T).sum())
            for half, other_half in (halves, halves[::-1])
        )

    best = min(PENALTIES, key=squared_error)
    return Smoother(factor(best / 2).astype(np.float32), best / 2)


def kernel_factor(
    features: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenvectors `(N, r)` and eigenvalues `(r,)` of K for features `(N, D)` and labels
    `(N,)`.
    """
    centred = np.eye(classes)[labels] - np.bincount(labels, minlength=classes) / len(labels)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    codes = (left * sizes)[:, sizes > 1e-9 * sizes.max()]
    if codes.shape[1] * features.shape[1] <= len(labels):
        design = (features[:, :, None] * codes[:, None, :]).reshape(len(labels), -1)
        vectors, roots, _ = np.linalg.svd(design, full_matrices=False)
        values = roots**2
    else:
        values, vectors = np.linalg.eigh((features @ features.T) * (codes @ codes.T))
        values, vectors = values[::-1], vectors[:, ::-1]
    keep = np.flatnonzero(values > 1e-7 * values[0])[:_MOST_EIGENVECTORS]
    return vectors[:, keep], values[keep]
