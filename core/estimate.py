"""Which number to show for a pair: the mean over members, or that mean smoothed over like training items.

One raw influence on a text is almost all mask noise. Items with like features and the same label have like influences,
so a ridge regression of a target's raw influences r ∈ ℝᴺ on the training items' features times their signed labels keeps
what they share and drops what they do not:

    r̂ = K (K + λI)⁻¹ r,   K_ij = ⟨φ_i, φ_j⟩ · ⟨e(y_i) − p̄, e(y_j) − p̄⟩

with features φ, one-hot labels e and class shares p̄ (for two classes: signed labels). It uses nothing but turn-over
influences and features, and gives about 0 where they agree on nothing. With B Bᵀ = K (K + λI)⁻¹ from the eigenvectors of
K, smoothing is two thin products, `B (Bᵀ r)`, and it is linear: members may be smoothed before or after their mean.

The members are split into two halves, and what is made of one half predicts the raw influences of the other. λ is the one
with the smallest squared error, halved: the best λ is proportional to the noise, and all members have half the noise of
one half. Where influence is local, smoothing loses, so it is used only if its row correlation with the other half is
higher than the plain mean's; pages say which is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.errors import TurnoverError

MEAN, SMOOTHED = "mean", "smoothed"
PENALTIES = tuple(10 ** (exponent / 2) for exponent in range(-8, 3))
"""Ridge penalties tried, as shares of the sum of K's eigenvalues."""

_MOST_EIGENVECTORS = 768


@dataclass(frozen=True)
class Estimator:
    """How the members' influences become one number: `smoother` is B `(N, r)`, or None for the plain mean.

    `agreement` holds, for each candidate, the mean row correlation between it on one half of the members and the raw mean
    of the other half; `penalty` is λ as a share of the sum of K's eigenvalues (0 for the mean).
    """

    name: str
    smoother: np.ndarray | None
    agreement: dict[str, float]
    penalty: float = 0.0

    def apply(self, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Estimate and standard error, each `(T, N)` in nats, of member values `(K, T, N)`; the error is NaN for K = 1."""
        if self.smoother is not None:
            members = (members @ self.smoother) @ self.smoother.T
        count = len(members)
        error = members.std(0, ddof=1) / np.sqrt(count) if count > 1 else np.full_like(members[0], np.nan)
        return members.mean(0), error


def kernel_factor(features: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenvectors `(N, r)` and eigenvalues `(r,)` of K for features `(N, D)` and labels `(N,)`."""
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


def row_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Mean over rows of the correlation of two `(T, N)` arrays; rows without spread count as 0."""
    first, second = first - first.mean(1, keepdims=True), second - second.mean(1, keepdims=True)
    sizes = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    products = (first * second).sum(1)
    return float(np.divide(products, sizes, out=np.zeros_like(products), where=sizes > 0).mean())


def choose_estimator(pilot: np.ndarray, features: np.ndarray, labels: np.ndarray, classes: int) -> Estimator:
    """The estimator that held-out members favour.

    Args:
        pilot: raw influences `(K, T, N)` of some targets.
        features: of the training items, `(N, D)`.
        labels: of the training items, `(N,)` class numbers.
        classes: how many classes there are.

    Returns:
        The plain mean if K = 1, since there is no second half to predict.

    Raises:
        TurnoverError: if the pilot has not one column per training item.
    """
    members, _, count = pilot.shape
    if count != len(labels):
        raise TurnoverError(f"{count} influences a target for {len(labels)} training items; compute one for each")
    if members < 2:
        return Estimator(MEAN, None, {})
    halves = pilot[0::2].mean(0), pilot[1::2].mean(0)
    pairs = (halves, halves[::-1])
    vectors, values = kernel_factor(features.astype(np.float64), labels, classes)

    def smoother(penalty: float) -> np.ndarray:
        factor: np.ndarray = vectors * np.sqrt(values / (values + penalty * values.sum()))
        return factor

    def predicted(penalty: float, half: np.ndarray) -> np.ndarray:
        factor = smoother(penalty)
        smooth: np.ndarray = (half @ factor) @ factor.T
        return smooth

    best = min(PENALTIES, key=lambda penalty: sum(np.square(other - predicted(penalty, half)).sum() for half, other in pairs))
    smooth_agreement = float(np.mean([row_correlation(predicted(best, half), other) for half, other in pairs]))
    agreement = {MEAN: row_correlation(*halves), SMOOTHED: smooth_agreement}
    if agreement[SMOOTHED] <= agreement[MEAN]:
        return Estimator(MEAN, None, agreement)
    return Estimator(SMOOTHED, smoother(best / 2).astype(np.float32), agreement, best / 2)
