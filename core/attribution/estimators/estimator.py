"""Which estimator a run shows, and how it is applied to any target.

One member shows no spread, so its raw influences are all there is. From two members on there is
`best`, kept only if what it makes of one half of the members predicts the other half's raw
influences at least as well as their own median does: in the mean square, since the halves' noise is
independent and so its difference between two candidates is that of their errors.

`smoothed`: the mean over members, smoothed over like training items, one target at a time.

Items with like features and the same label have like influences, so a ridge regression of a
target's raw influences r ∈ ℝᴺ on the training items' features times their signed labels keeps what
they share and drops what they do not:

    r̂ = K (K + λI)⁻¹ r,   K_ij = ⟨φ_i, φ_j⟩ · ⟨e(y_i) − p̄, e(y_j) − p̄⟩

with features φ, one-hot labels e and class shares p̄ (for two classes: signed labels). It uses
nothing but turn-over influences and features, and gives about 0 where they agree on nothing. With B
Bᵀ = K (K + λI)⁻¹ from the eigenvectors of K, smoothing is two thin products, `B (Bᵀ r)`, and it is
linear: members may be smoothed before or after their mean.

λ is the one whose fit to one half of the members has the smallest squared error on the other half,
halved: the best λ is proportional to the noise, and all members have half the noise of one half.
Where influence is local, smoothing loses, which is why runs show `best` instead; it stays here to
be compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnover.attribution.estimators import BEST, MEDIAN, RAW
from turnover.attribution.estimators.basis import Basis, make_basis
from turnover.attribution.estimators.shrinkage import (
    Shrinkage,
    fit_shrinkage,
    noise_shares,
    other_shares,
)
from turnover.errors import TurnoverError

_LEAST_TO_COMPARE = 4
_MEDIAN_ERROR = (np.pi / 2) ** 0.5


@dataclass(frozen=True)
class Described:
    """What is known of some items beside influences: features `(n, D)`, and residuals, one-hot
    label minus probabilities, `(n, C)`.
    """

    features: np.ndarray
    residuals: np.ndarray


@dataclass(frozen=True)
class Estimator:
    """How the members' influences become one number.

    `agreement` holds, for each candidate, the mean row correlation between it on one half of the
    members and the raw median of the other half, all divided by κ, since a few noisy items would
    decide it otherwise; empty for fewer than four members. It judges the order alone; the choice
    goes by the mean square.
    `noise` is κ `(N,)` of the training items. Only `best` has the last three.
    """

    name: str
    agreement: dict[str, float]
    noise: np.ndarray | None = None
    basis: Basis | None = None
    shrinkage: Shrinkage | None = None

    @property
    def directions(self) -> int:
        """Columns r of a target's coefficients; 0 where the estimator asks for none."""
        return 0 if self.basis is None else self.basis.vectors.shape[1]

    def coefficients_of(self, targets: Described) -> np.ndarray:
        """What `apply` asks for besides the influences of T targets: `(T, r)`, without columns
        where it needs nothing.
        """
        return (
            np.zeros((len(targets.residuals), 0), np.float32)
            if self.basis is None
            else self.basis.coefficients_of(targets.features, targets.residuals)
        )

    def apply(self, members: np.ndarray, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Estimates and errors, each `(T, N)` in nats, of raw influences `(K, T, N)`; errors are
        NaN for one member.

        For mean influences over some targets give the mean of the targets' shapes.
        """
        if self.noise is None or self.basis is None or self.shrinkage is None:
            return np.median(members, 0), _spread(members)
        estimate, error = self.shrinkage.posterior(
            members / self.noise, self.basis.vectors, coefficients
        ).items()
        return estimate * self.noise, error * self.noise

    def group(
        self, members: np.ndarray, coefficients: np.ndarray, inside: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Summed estimates of groups of training items and their errors, each `(T, G)` in nats;
        errors are NaN for one member.

        A sum is that of the items' estimates from `apply`. Its error is not the root of their
        summed squares, since errors of items go together: for `best` it comes from their joint
        distribution (`turnover.attribution.estimators.shrinkage`), for the median from the spread
        of the members' own sums. The median of those sums would be another estimate; but then a
        group would not be the sum of what is shown of its items, which are medians because few
        members have single values far out.

        Args:
            members: raw influences `(K, T, N)`.
            coefficients: of the targets, as for `apply`.
            inside: which items are in which group, `(G, N)`.
        """
        if self.noise is None or self.basis is None or self.shrinkage is None:
            loads = inside.astype(members.dtype)
            return np.median(members, 0) @ loads.T, _spread(members @ loads.T)
        return self.shrinkage.posterior(
            members / self.noise, self.basis.vectors, coefficients
        ).sums(inside * self.noise.astype(np.float64))


def _spread(members: np.ndarray) -> np.ndarray:
    """Standard error of the median over members `(K, …)`, as for normal noise; NaN for one
    member.
    """
    count = len(members)
    return (
        members.std(0, ddof=1) * _MEDIAN_ERROR / count**0.5
        if count > 1
        else np.full_like(members[0], np.nan)
    )


def choose_estimator(pilot: np.ndarray, train: Described, targets: Described) -> Estimator:
    """The estimator that held-out members favour.

    Args:
        pilot: raw influences `(K, T, N)` of some targets.
        train: the N training items, their probabilities from the flipped networks.
        targets: these T targets.

    Raises:
        TurnoverError: if the pilot has not one column per training item.
    """
    members, _, count = pilot.shape
    if count != len(train.features):
        raise TurnoverError(
            f"{count} influences a target for {len(train.features)} training items; compute one for"
            " each"
        )
    if members < 2:
        return Estimator(RAW, {})
    noise = noise_shares(pilot)
    basis = make_basis(train.features, train.residuals / noise[:, None])
    coefficients = basis.coefficients_of(targets.features, targets.residuals)
    scaled = pilot / other_shares(pilot)
    agreement, misses = (
        _compared(scaled, basis.vectors, coefficients) if members >= _LEAST_TO_COMPARE else ({}, {})
    )
    if misses and misses[BEST] > misses[MEDIAN]:
        return Estimator(MEDIAN, agreement)
    return Estimator(
        BEST, agreement, noise, basis, fit_shrinkage(scaled, basis.vectors, coefficients)
    )


def _compared(
    pilot: np.ndarray, vectors: np.ndarray, coefficients: np.ndarray
) -> tuple[dict[str, float], dict[str, float]]:
    """Of each candidate on one half of the members against the raw influences of the other half,
    both ways: mean row correlation, mean square.
    """
    found: dict[str, list[tuple[float, float]]] = {MEDIAN: [], BEST: []}
    for half, other in ((pilot[0::2], pilot[1::2]), (pilot[1::2], pilot[0::2])):
        raw = np.median(other, 0)
        made = {
            MEDIAN: np.median(half, 0),
            BEST: fit_shrinkage(half, vectors, coefficients)
            .posterior(half, vectors, coefficients)
            .items()[0],
        }
        for name, own in made.items():
            missed = (own - raw) - (own - raw).mean(1, keepdims=True)
            found[name].append((row_correlation(own, raw), float(np.square(missed).mean())))
    agreement, misses = (
        {name: float(np.mean([pair[place] for pair in pairs])) for name, pairs in found.items()}
        for place in (0, 1)
    )
    return agreement, misses


def row_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Mean over rows of the correlation of two `(T, N)` arrays; rows without spread count as 0."""
    first, second = first - first.mean(1, keepdims=True), second - second.mean(1, keepdims=True)
    sizes = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    products = (first * second).sum(1)
    return float(np.divide(products, sizes, out=np.zeros_like(products), where=sizes > 0).mean())


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
    """The smoother that held-out members favour.

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

    def missed(penalty: float) -> float:
        own = factor(penalty)
        return sum(
            float(np.square(other - (half @ own) @ own.T).sum())
            for half, other in (halves, halves[::-1])
        )

    best = min(PENALTIES, key=missed)
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
