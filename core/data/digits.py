"""Handwritten digits: 1,797 real 8 × 8 images that come with scikit-learn (Alpaydin and Kaynak 1998, UCI)."""

from __future__ import annotations

import numpy as np

from turnover.data.base import Dataset, Items, check_dataset

TRAINING = 1200


def load_digits() -> Dataset:
    """1,200 training and 597 validation images, bright strokes on black, always the same split."""
    from sklearn.datasets import load_digits as sklearn_digits

    pixels, labels = sklearn_digits(return_X_y=True)
    images = (pixels.reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(labels))

    def split(rows: np.ndarray) -> Items:
        return Items([f"digit-{row:04d}" for row in rows], labels[rows].astype(np.int64), images=images[rows])

    classes = tuple(str(digit) for digit in range(10))
    return check_dataset(Dataset("digits", "scikit-learn digits", classes, split(order[:TRAINING]), split(order[TRAINING:])))
