"""Stands in for umap-learn, which the tests do not install: the same call, and places that are the
first two columns less their mean.
"""

from __future__ import annotations

import numpy as np


class UMAP:
    """As `umap.UMAP`, as far as it is used."""

    def __init__(
        self,
        n_neighbors: float = 15,
        n_components: int = 2,
        *,
        random_state: int | None = None,
        n_jobs: int = -1,
    ) -> None:
        assert n_components == 2 and random_state == 0 and n_jobs == 1, (
            "only a fixed seed gives the same map each time"
        )
        self.n_neighbors = n_neighbors

    def fit_transform(self, X: np.ndarray) -> np.ndarray:
        """Places of rows."""
        if not 1 < self.n_neighbors < len(X):
            raise ValueError("n_neighbors must be greater than 1")
        return np.asarray(X[:, :2] - X[:, :2].mean(0), np.float32)
