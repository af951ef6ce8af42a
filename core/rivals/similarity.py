"""Signed cosine similarity: like training items with the label in question for it, like items with another label against it.

The simplest rival (as in Hanawa et al. 2021): it knows the encoder's features and the labels, but not the model.
"""

from __future__ import annotations

import numpy as np


def signed_similarity(target: np.ndarray, features: np.ndarray, labels: np.ndarray, label: int) -> np.ndarray:
    """Scores `(N,)` of training features `(N, D)` with `labels` for one target's features `(D,)` and a label."""
    sizes = np.linalg.norm(features, axis=1) * np.linalg.norm(target)
    cosine: np.ndarray = features @ target / np.maximum(sizes, 1e-12)
    return np.where(labels == label, cosine, -cosine)
