"""`smoothed`: the mean over members, smoothed over like training items, one target at a time.

Items with like features and the same label have like influences, so a ridge regression of a target's raw influences r ∈ ℝᴺ
on the training items' features times their signed labels keeps what they share and drops what they do not:

    r̂ = K (K + λI)⁻¹ r,   K_ij = ⟨φ_i, φ_j⟩ · ⟨e(y_i) − p̄, e(y_j) − p̄⟩

with features φ, one-hot labels e and class shares p̄ (for two classes: signed labels). It uses nothing but turn-over
influences and features, and gives about 0 where they agree on nothing. With B Bᵀ = K (K + λI)⁻¹ from the eigenvectors of
K, smoothing is two thin products, `B (Bᵀ r)`, and it is linear: members may be smoothed before or after their mean.

λ is the one whose fit to one half of the members has the smallest squared error on the other half, halved: the best λ is
proportional to the noise, and all members have half the noise of one half. Where influence is local, smoothing loses, which
is why runs show `best` instead; it stays here to be compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PENALTIES = tuple(10 ** (exponent / 2) for exponent in range(-8, 3))
"""Ridge penalties tried, as shares of the sum of K's eigenvalues."""

_MOST_EIGENVECTORS = 768


@dataclass(frozen=True)
class Smoother:
    """`factor` is B `(N, r)`; `penalty` is λ as a share of the sum of K's eigenvalues."""

    factor: np.ndarray
    penalty: float

    def apply(self, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Estimate and standard error, each `(T, N)` in nats, of member values `(K, T, N)`, K ≥ 2."""
        smooth = (members @ self.factor) @ self.factor.T
        return smooth.mean(0), smooth.std(0, ddof=1) / len(smooth) ** 0.5


def smoothing(pilot: np.ndarray, features: np.ndarray, labels: np.ndarray, classes: int) -> Smoother:
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
        return sum(float(np.square(other - (half @ own) @ own.T).sum()) for half, other in (halves, halves[::-1]))

    best = min(PENALTIES, key=missed)
    return Smoother(factor(best / 2).astype(np.float32), best / 2)


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
