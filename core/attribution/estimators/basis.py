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

The products are never wider than `_MOST_COLUMNS`: features are projected at random first (Johnson
and Lindenstrauss 1984), and beyond that the eigenvectors come from a sample of items (Nyström;
Williams and Seeger 2001), so N = 50,000 is a matter of seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_MOST_FEATURES = 512
_MOST_COLUMNS = 4096
_MOST_VECTORS = 768
_NEGLIGIBLE = 1e-6
"""Smallest eigenvalue kept, as a share of the largest; in float32 a zero eigenvalue may come out as
about 2e-7.
"""


@dataclass(frozen=True)
class Basis:
    """`vectors` U `(N, r)`, orthonormal columns; `projector` `(D · C, r)` maps a target's ψ into
    it; `random` `(D₀, D)`, or None, projects the features first.
    """

    vectors: np.ndarray
    projector: np.ndarray
    random: np.ndarray | None = None

    def coefficients_of(self, features: np.ndarray, residuals: np.ndarray) -> np.ndarray:
        """Coefficients `(T, r)` of targets with features `(T, D₀)` and residuals `(T, C)`."""
        coefficients: np.ndarray = _products(features, residuals, self.random) @ self.projector
        return coefficients


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
    products = _products(features, residuals, random)
    vectors = _eigenvectors(products)
    return Basis(vectors.astype(np.float32), (products.T @ vectors).astype(np.float32), random)


def _products(features: np.ndarray, residuals: np.ndarray, random: np.ndarray | None) -> np.ndarray:
    """ψ `(n, D · C)` of some items."""
    projected = (
        np.asarray(features, np.float32)
        if random is None
        else np.asarray(features, np.float32) @ random
    )
    return (projected[:, :, None] * residuals.astype(np.float32)[:, None, :]).reshape(
        len(projected), -1
    )


def _eigenvectors(products: np.ndarray) -> np.ndarray:
    """Leading eigenvectors `(N, r)` of ΨΨᵀ, or Nyström's approximation from a sample of rows and
    columns.
    """
    count, width = products.shape
    if width <= _MOST_COLUMNS:
        small, directions = np.linalg.eigh((products.T @ products).astype(np.float64))
        rows = products
    else:
        sample = (
            products
            if count <= _MOST_COLUMNS
            else products[np.sort(np.random.default_rng(0).permutation(count)[:_MOST_COLUMNS])]
        )
        small, directions = np.linalg.eigh((sample @ sample.T).astype(np.float64))
        rows = products @ sample.T
    keep = np.flatnonzero(small > _NEGLIGIBLE * small[-1])[::-1][:_MOST_VECTORS]
    # exactly orthonormal, in the same order
    vectors: np.ndarray = np.linalg.qr(rows @ directions[:, keep])[0]
    return vectors
