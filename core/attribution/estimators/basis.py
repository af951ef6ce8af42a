"""The directions in which influences of similar items are similar.

A step of gradient descent on training item i moves the logits of a target t, to first order, by the
product of their features and of the item's residual: with features φ and the *residual* ε = e(y) −
p, one-hot label minus predicted probabilities,

    influence(i, t) ∝ ⟨φ_i, φ_t⟩ · ⟨ε_i, ε_t⟩ = ⟨ψ_i, ψ_t⟩,   ψ = φ ⊗ ε

(the last layer's share of TracIn, Pruthi et al. 2020). p_i comes from the *flipped* sub-network,
which never saw item i, since the one that did has no residual left on it; p_t from sub-networks
that no item owns. This gives only directions: how much of each is present is measured from
turn-over influences (`turnover.attribution.estimators.shrinkage`), which is why this module gives a
basis and no influences. With Ψ = U S Vᵀ for all training items, `vectors` is U, and the
coefficients of a target in that basis are Ψ_t Ψᵀ U.

Features are projected at random first (Johnson and Lindenstrauss 1984). Products wider than
`_MOST_COLUMNS`, as of many classes, are not written out: ⟨ψ_i, ψ_t⟩ is known from features and
residuals, and the eigenvectors come from a sample of items (Nyström; Williams and Seeger 2001), so
N = 50,000 is a matter of seconds. Ψᵀ U is kept or, where it is much larger, features and residuals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MOST_FEATURES = 512
_MOST_COLUMNS = 4096
_MOST_VECTORS = 768
_MOST_VALUES = 2**28
"""U has at most so many values, 1 GiB: 268 directions of a million training items."""
_MOST_HELD = 8192
"""Ψᵀ U with so many rows is held in any case."""
NEGLIGIBLE = 1e-6
"""Smallest eigenvalue kept, as a share of the largest; in float32 a zero eigenvalue may come out as
about 2e-7.
"""


@dataclass(frozen=True)
class Basis:
    """`vectors` U `(N, r)`, orthonormal columns; `eigenvalues` `(r,)` of ΨΨᵀ, as shares of the
    largest; `projector` `(D · C, r)` maps a target's ψ into it, or is the training items' features
    and residuals, `(N, D + C)`; `random` `(D₀, D)`, or None, projects the features first.
    """

    vectors: np.ndarray
    eigenvalues: np.ndarray
    projector: np.ndarray
    random: np.ndarray | None = None

    def projected(self, features: np.ndarray) -> np.ndarray:
        """Features `(n, D)` of features `(n, D₀)`."""
        return _projected(features, self.random)

    def coefficients_of(self, features: np.ndarray, residuals: np.ndarray) -> np.ndarray:
        """Coefficients `(T, r)` of targets with features `(T, D₀)` and residuals `(T, C)`."""
        parts = _projected(features, self.random), residuals.astype(np.float32)
        width = parts[0].shape[1]
        if self.projector.shape != (len(self.vectors), width + residuals.shape[1]):
            coefficients: np.ndarray = _products(*parts) @ self.projector
            return coefficients
        # in float64, since the sums over items cancel in the weak directions
        held = np.split(self.projector.astype(np.float64), [width], axis=1)
        exact: np.ndarray = kernel([part.astype(np.float64) for part in parts], held) @ self.vectors
        return exact.astype(np.float32)


def make_basis(features: np.ndarray, residuals: np.ndarray) -> Basis:
    """The leading directions of training items with features `(N, D₀)` and residuals `(N, C)`."""
    random = None
    if features.shape[1] > _MOST_FEATURES:
        random = (
            np.random.default_rng(0)
            .normal(size=(features.shape[1], _MOST_FEATURES))
            .astype(np.float32)
            / _MOST_FEATURES**0.5
        )
    parts = _projected(features, random), residuals.astype(np.float32)
    vectors, eigenvalues = _eigenvectors(*parts)
    items, width = np.concatenate(parts, axis=1), parts[0].shape[1] * residuals.shape[1]
    if width <= _MOST_HELD or width * vectors.shape[1] <= items.size:
        return Basis(vectors, eigenvalues, _products(*parts).T @ vectors, random)
    return Basis(vectors, eigenvalues, items, random)


def _projected(features: np.ndarray, random: np.ndarray | None) -> np.ndarray:
    features = np.asarray(features, np.float32)
    return features if random is None else features @ random


def _products(features: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """ψ `(n, D · C)` of some items."""
    return (features[:, :, None] * residuals[:, None, :]).reshape(len(features), -1)


def kernel(these: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> np.ndarray:
    """⟨ψ_i, ψ_j⟩ `(n, m)` from the features and residuals of both."""
    product: np.ndarray = (these[0] @ others[0].T) * (these[1] @ others[1].T)
    return product


def _eigenvectors(features: np.ndarray, residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenvectors `(N, r)` of ΨΨᵀ, or Nyström's approximation from a sample of rows and
    columns, and their eigenvalues `(r,)` as shares of the largest.
    """
    count = len(features)
    if features.shape[1] * residuals.shape[1] <= _MOST_COLUMNS:
        rows = _products(features, residuals)
        small, directions = np.linalg.eigh((rows.T @ rows).astype(np.float64))
    else:
        drawn = np.sort(np.random.default_rng(0).permutation(count)[:_MOST_COLUMNS])
        sample = features[drawn], residuals[drawn]
        small, directions = np.linalg.eigh(kernel(sample, sample).astype(np.float64))
        rows = kernel((features, residuals), sample)
    keep = np.flatnonzero(small > NEGLIGIBLE * small[-1])[::-1]
    keep = keep[: max(1, min(_MOST_VECTORS, _MOST_VALUES // count))]
    # exactly orthonormal, in the same order
    vectors = np.linalg.qr(rows @ directions[:, keep])[0].astype(np.float32)
    return vectors, (small[keep] / small[-1]).astype(np.float32)
