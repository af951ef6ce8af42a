"""Influences drawn from the model behind `best`, so that tests know the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from turnover.attribution.estimators.basis import make_basis
from turnover.attribution.estimators.estimator import Described, Estimator, choose_estimator


@dataclass(frozen=True)
class Injected:
    """Members' raw influences `(K, T, N)`, the truth `(T, N)` in them, the items, and κ `(N,)`."""

    members: np.ndarray
    truth: np.ndarray
    train: Described
    targets: Described
    noise: np.ndarray

    def missed(self, estimates: np.ndarray) -> float:
        """Mean squared error of estimates."""
        return float(np.square(estimates - self.truth).mean())

    def median(self) -> np.ndarray:
        """The plain median over members."""
        middle: np.ndarray = np.median(self.members, 0)
        return middle

    def chosen(self) -> tuple[Estimator, np.ndarray, np.ndarray]:
        """The estimator that these influences favour, its estimates and their errors."""
        estimator = choose_estimator(self.members, self.train, self.targets)
        return estimator, *estimator.apply(self.members, estimator.coefficients_of(self.targets))

    def filtered(self) -> np.ndarray:
        """Estimates of `best` without what a target or an item does otherwise: the prior."""
        estimator, _, _ = self.chosen()
        assert estimator.shrinkage is not None
        shared = replace(
            estimator.shrinkage, deviation=np.zeros_like(estimator.shrinkage.deviation), own=0.0
        )
        return replace(estimator, shrinkage=shared).apply(
            self.members, estimator.coefficients_of(self.targets)
        )[0]


def some_items(
    rng: np.random.Generator, count: int, width: int = 10, classes: int = 3
) -> Described:
    """Items with normal features, random labels and random probabilities."""
    chances = rng.dirichlet(np.ones(classes), count)
    return Described(
        rng.normal(size=(count, width)), np.eye(classes)[rng.integers(0, classes, count)] - chances
    )


def injected(
    seed: int,
    *,
    smooth: float = 0.0,
    local: float = 0.0,
    deviation: float = 0.0,
    noise: float = 1.0,
    uneven: bool = False,
    **sizes: Any,
) -> Injected:
    """What targets share (`smooth`), what a target adds in the basis, what an item adds (`local`)
    and noise, each with its standard deviation.
    """
    rng = np.random.default_rng(seed)
    members, targets, count = (
        sizes.get(name, usual) for name, usual in (("members", 8), ("targets", 40), ("count", 400))
    )
    train, seen = some_items(rng, count), some_items(rng, targets)
    shares = np.exp(0.7 * rng.normal(size=count)) if uneven else np.ones(count)
    shares /= np.sqrt(np.square(shares).mean())
    basis = make_basis(train.features, train.residuals)
    coefficients = basis.coefficients_of(seen.features, seen.residuals) @ basis.vectors.T
    others = deviation * rng.normal(size=(targets, basis.vectors.shape[1])) @ basis.vectors.T
    strengths = 1 + 0.3 * rng.normal(size=(targets, 1))
    inside = (
        smooth * strengths * coefficients / coefficients.std()
        + others
        + local * rng.normal(size=(targets, count))
    )
    truth = inside - inside.mean(1, keepdims=True)
    return Injected(
        truth + noise * shares * rng.normal(size=(members, targets, count)),
        truth,
        train,
        seen,
        shares,
    )
